"""What a deployment handle adds: a bounded wait where no replica runs, and that what is consumed is cancelled."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from serve_app.deployments import handles
from serve_app.deployments.handles import DecoderHandle
from serve_app.errors import NotReady
from serve_app.messages import GenerationRequest

REQUEST = GenerationRequest("r", "Hello.", 0)


class Response:
    """A streaming response whose messages come once a replica runs."""

    def __init__(self, graph: "Graph") -> None:
        self._graph = graph
        self._left = [1, 2, 3]
        self.cancelled = False

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await self._graph.runs.wait()
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop(0)

    def cancel(self) -> None:
        self.cancelled = True


class Graph:
    """As much of a DeploymentHandle as is used."""

    def __init__(self) -> None:
        self.runs = asyncio.Event()
        self.asked: list[Response] = []
        self.stream = self

    def options(self, **_: object) -> "Graph":
        return self

    def remote(self, request: GenerationRequest) -> Response:
        self.asked.append(Response(self))
        return self.asked[-1]

    def running_replicas_populated(self) -> bool:
        return self.runs.is_set()


async def messages(graph: Graph, cold_wait_seconds: float) -> list[object]:
    return [message async for message in DecoderHandle(graph, cold_wait_seconds).stream(REQUEST)]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "_COLD_POLL_SECONDS", 0.01)


async def test_messages_in_order_and_cancelled_at_the_end() -> None:
    graph = Graph()
    graph.runs.set()
    assert await messages(graph, 1) == [1, 2, 3]
    assert graph.asked[0].cancelled


async def test_a_request_waits_for_the_first_replica_and_is_on_its_way_meanwhile() -> None:
    graph = Graph()
    waiting = asyncio.create_task(messages(graph, 30))
    await asyncio.sleep(0.05)
    assert len(graph.asked) == 1 and not waiting.done()
    graph.runs.set()
    assert await waiting == [1, 2, 3]


async def test_but_not_for_ever() -> None:
    graph = Graph()
    with pytest.raises(NotReady, match="no replica started within 0 seconds; try again"):
        await messages(graph, 0.05)
    assert graph.asked[0].cancelled


async def test_leaving_while_waiting_cancels_the_request() -> None:
    graph = Graph()
    waiting = asyncio.create_task(messages(graph, 30))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert graph.asked[0].cancelled


async def test_a_stream_without_messages_is_empty() -> None:
    graph = Graph()
    graph.runs.set()
    response = graph.remote(REQUEST)
    response._left.clear()
    graph.remote = lambda request: response  # type: ignore[method-assign]
    assert await messages(graph, 1) == []
