"""What a deployment handle adds: a bounded wait where no replica runs, a look at other lines, and that what is consumed
is cancelled."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.serve.exceptions import DeploymentUnavailableError

from serve_app.audio.inner_opus import OpusPackets
from serve_app.deployments import handles
from serve_app.deployments.handles import DecoderHandle, EncoderHandle, GeneratorHandle
from serve_app.deployments.heartbeats import Heartbeat, while_heard
from serve_app.errors import GenerationFailed, NotReady, Overloaded, ReplicaLost
from serve_app.messages import AudioChunk, Codes, FinishReason, GenerationRequest
from serve_app.settings import FailoverSettings

REQUEST = GenerationRequest("r", "Hello.", 0)
PERIOD_SECONDS = 0.01
BEAT = Heartbeat()
SILENCE = None
"""Of the things a replica sends: nothing more comes."""


class Response:
    """A streaming response: what it holds comes once a replica runs."""

    def __init__(self, graph: "Graph", sends: list[object]) -> None:
        self.cancelled = False
        self._unsent = sends[0] if sends and isinstance(sends[0], DeploymentUnavailableError) else None
        self._stream = self._messages(graph, sends)

    async def _messages(self, graph: "Graph", sends: list[object]) -> AsyncGenerator[object, None]:
        await graph.runs.wait()
        for message in sends:
            if message is SILENCE:
                await asyncio.Event().wait()
            if isinstance(message, Exception):
                raise message
            yield message

    def __aiter__(self) -> AsyncGenerator[object, None]:
        return self._stream

    async def __anext__(self) -> object:
        return await anext(self._stream)

    def cancel(self) -> None:
        self.cancelled = True
        if self._unsent is not None:
            raise self._unsent


class Graph:
    """As much of a DeploymentHandle as is used. Calls are answered with one of `answers` each, then with the last."""

    def __init__(self, *answers: list[object]) -> None:
        self.runs = asyncio.Event()
        self.requests: list[GenerationRequest] = []
        self.responses: list[Response] = []
        self.stream = self.generate = self
        self._answers = list(answers)

    def options(self, **_: object) -> "Graph":
        return self

    def remote(self, request: GenerationRequest) -> Response:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.requests.append(request)
        self.responses.append(Response(self, answer))
        return self.responses[-1]


def running(*answers: list[object]) -> Graph:
    graph = Graph(*answers)
    graph.runs.set()
    return graph


async def messages(graph: Graph, cold_wait_seconds: float = 30) -> list[object]:
    handle = DecoderHandle(graph, FailoverSettings(cold_wait_seconds=cold_wait_seconds))  # type: ignore[arg-type]
    return [message async for message in handle.stream(REQUEST)]


async def generated(graph: Graph) -> list[object]:
    handle = GeneratorHandle(graph, FailoverSettings())  # type: ignore[arg-type]
    return [message async for message in handle.generate(REQUEST)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "while_heard", partial(while_heard, period_seconds=PERIOD_SECONDS))


async def test_messages_in_order_and_cancelled_at_the_end() -> None:
    graph = running([1, 2, 3])
    assert await messages(graph) == [1, 2, 3]
    assert graph.responses[0].cancelled


async def test_a_request_waits_for_the_first_replica_and_is_on_its_way_meanwhile() -> None:
    graph = Graph([1, 2, 3])
    waiting = asyncio.create_task(messages(graph))
    await asyncio.sleep(20 * PERIOD_SECONDS)
    assert not waiting.done() and not graph.responses[-1].cancelled
    graph.runs.set()
    assert await waiting == [1, 2, 3]
    assert all(response.cancelled for response in graph.responses)


async def test_but_not_for_ever() -> None:
    graph = Graph([1])
    with pytest.raises(NotReady, match="no replica started within 0 seconds; try again"):
        await messages(graph, cold_wait_seconds=0.05)
    assert all(response.cancelled for response in graph.responses)


async def test_a_deployment_that_is_gone_is_not_ready() -> None:
    """Serve raises it again where the request is cancelled that was never sent."""
    unavailable = DeploymentUnavailableError("AudioDecoder")  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotReady, match="still loading"):
        await messages(running([unavailable]))


async def test_leaving_while_waiting_cancels_the_request() -> None:
    graph = Graph([1])
    waiting = asyncio.create_task(messages(graph))
    await asyncio.sleep(PERIOD_SECONDS)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert graph.responses[-1].cancelled


@pytest.mark.parametrize("handle", [DecoderHandle, GeneratorHandle])
async def test_closing_a_stream_has_cancelled_its_request(handle: type[DecoderHandle] | type[GeneratorHandle]) -> None:
    """At once: garbage collection would cancel it at some later time, and the replica would work until then."""
    graph = running([1, 2, 3])
    port = handle(graph, FailoverSettings())  # type: ignore[arg-type]
    stream = port.stream(REQUEST) if isinstance(port, DecoderHandle) else port.generate(REQUEST)
    await anext(stream)
    await stream.aclose()
    assert graph.responses[0].cancelled


async def test_a_request_that_waits_in_a_fused_decoder_is_routed_again() -> None:
    """As one that waits in a generator: another replica may have room."""
    graph = running([BEAT, BEAT, SILENCE], [1, 2])
    handle = DecoderHandle(graph, FailoverSettings(), is_fused=True)  # type: ignore[arg-type]
    assert [message async for message in handle.stream(REQUEST)] == [1, 2]
    assert graph.requests[1].waited_seconds > 0


async def test_a_fused_decoder_that_refuses_is_left_for_another_once() -> None:
    graph = running([Overloaded("full", 1)], [1, 2])
    handle = DecoderHandle(graph, FailoverSettings(), is_fused=True)  # type: ignore[arg-type]
    assert [message async for message in handle.stream(REQUEST)] == [1, 2]
    assert graph.requests[1].was_refused


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "runs_alone", lambda handle: True)


@pytest.mark.usefixtures("alone")
async def test_a_lone_replica_that_refuses_is_not_asked_again() -> None:
    """It would cost as much once more, just when there is too much to do."""
    graph = running([Overloaded("full", 1)], [1, 2])
    with pytest.raises(Overloaded):
        await generated(graph)
    assert len(graph.requests) == 1


@pytest.mark.usefixtures("alone")
async def test_nor_is_one_that_keeps_the_request_waiting() -> None:
    graph = running([BEAT] * 5 + [1, 2])
    assert await generated(graph) == [1, 2]
    assert len(graph.requests) == 1


async def test_sound_that_comes_as_opus_is_sound_again() -> None:
    pcm, codes = bytes(2 * 3840), Codes.from_array(np.zeros((2, 4), np.int64))
    packed = AudioChunk(0, b"", codes, opus=OpusPackets(64_000).encode(pcm))
    last = AudioChunk(2, b"", Codes.empty(4), FinishReason.EOS)
    handle = DecoderHandle(running([packed, last]), FailoverSettings())  # type: ignore[arg-type]
    heard = [message async for message in handle.stream(replace(REQUEST, is_lossy=True))]
    assert heard == [AudioChunk(0, pcm, codes), last]


async def test_a_stream_without_messages_is_empty() -> None:
    assert await messages(running([])) == []


async def test_heartbeats_are_for_the_next_hop_only() -> None:
    assert await messages(running([BEAT, 1, BEAT, BEAT, BEAT, 2])) == [1, 2]


async def test_a_replica_that_is_cut_off_before_it_took_the_request_is_not_waited_for() -> None:
    graph = running([SILENCE], [1, 2])
    assert await messages(graph) == [1, 2]
    assert len(graph.requests) == 2 and graph.responses[0].cancelled


@pytest.mark.parametrize("sends", [[BEAT, SILENCE], [1, SILENCE]], ids=["while it waits", "while it speaks"])
async def test_one_that_is_cut_off_later_is_lost(sends: list[object]) -> None:
    graph = running(sends)
    with pytest.raises(ReplicaLost):
        await messages(graph)
    assert len(graph.requests) == 1 and graph.responses[0].cancelled


async def test_who_stands_in_line_looks_where_it_is_shorter_and_keeps_its_place() -> None:
    graph = running([BEAT, BEAT, SILENCE], [1, 2])
    assert await generated(graph) == [1, 2]
    first, second = graph.requests
    assert first.waited_seconds == 0 < second.waited_seconds
    assert graph.responses[0].cancelled


async def test_who_is_being_served_stays() -> None:
    graph = running([1, BEAT, BEAT, BEAT, 2])
    assert await generated(graph) == [1, 2]
    assert len(graph.requests) == 1


FULL = Overloaded("the queue is full", 2)


async def test_who_is_refused_by_a_full_replica_asks_another_one_once() -> None:
    graph = running([FULL], [1, 2])
    assert await generated(graph) == [1, 2]
    first, second = graph.requests
    assert (first.was_refused, second.was_refused) == (False, True)
    assert second.waited_seconds == 0  # it has no place in any line that it could keep
    assert all(response.cancelled for response in graph.responses)
    graph = running([FULL])
    with pytest.raises(Overloaded):
        await generated(graph)
    assert len(graph.requests) == 2


async def test_a_stream_that_has_begun_is_not_asked_for_twice() -> None:
    graph = running([1, FULL])
    with pytest.raises(Overloaded):
        await generated(graph)
    assert len(graph.requests) == 1


async def test_what_grpc_raises_is_an_error_of_ours() -> None:
    too_large = AioRpcError(StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata(), "larger than max")
    with pytest.raises(GenerationFailed, match="try again"):
        await messages(running([too_large]))


class Answer:
    """A unary response, and as much of the encoder's handle as asks for it."""

    def __init__(self, runs: bool) -> None:
        self.cancelled = False
        self.encode = self
        self._runs = runs

    def options(self, **_: object) -> "Answer":
        return self

    def remote(self, _pcm: bytes, _owner: str) -> "Answer":
        return self

    def __await__(self) -> Generator[Any, None, str]:
        yield from (asyncio.sleep(0) if self._runs else asyncio.Event().wait()).__await__()
        return "codes"

    def cancel(self) -> None:
        self.cancelled = True


async def test_an_encoder_of_which_none_runs_is_not_waited_for_for_ever() -> None:
    answer = Answer(runs=False)
    with pytest.raises(NotReady, match="no replica answered within"):
        await asyncio.wait_for(EncoderHandle(answer, FailoverSettings(cold_wait_seconds=0.05)).encode(b""), 10)  # type: ignore[arg-type]
    assert answer.cancelled


async def test_one_that_answers_is_not_cancelled() -> None:
    answer = Answer(runs=True)
    assert await EncoderHandle(answer, FailoverSettings()).encode(b"") == "codes"  # type: ignore[arg-type]
    assert not answer.cancelled
