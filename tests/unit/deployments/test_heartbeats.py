"""A stream that has nothing to say says that it is there; one that does not is lost."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from contextvars import ContextVar

import pytest

from serve_app.deployments.heartbeats import Heartbeat, while_heard, with_heartbeats
from serve_app.errors import GenerationFailed, ReplicaSilent

PERIOD_SECONDS = 0.02
_number: ContextVar[int] = ContextVar("number")


async def spoken(*pauses_in_periods: float) -> AsyncGenerator[int, None]:
    for number, pause in enumerate(pauses_in_periods):
        await asyncio.sleep(pause * PERIOD_SECONDS)
        yield number


async def kinds(messages: AsyncIterator[int | Heartbeat]) -> list[int | str]:
    return ["beat" if isinstance(message, Heartbeat) else message async for message in messages]


async def test_a_stream_that_keeps_on_speaking_needs_no_heartbeat() -> None:
    assert await kinds(with_heartbeats(spoken(0, 0, 0), PERIOD_SECONDS)) == [0, 1, 2]


async def test_a_pause_is_filled_with_them_and_no_message_is_lost() -> None:
    heard = await kinds(with_heartbeats(spoken(0, 3.5, 0), PERIOD_SECONDS))
    assert [kind for kind in heard if kind != "beat"] == [0, 1, 2]
    assert heard[0] == 0 and heard[1] == "beat" and heard[-2:] == [1, 2]


async def test_what_a_stream_raises_is_raised() -> None:
    async def breaks() -> AsyncGenerator[int, None]:
        yield 0
        raise GenerationFailed("broken")

    heard = []
    with pytest.raises(GenerationFailed, match="broken"):
        async for message in with_heartbeats(breaks(), PERIOD_SECONDS):
            heard.append(message)
    assert heard == [0]


async def test_leaving_in_a_pause_closes_the_stream() -> None:
    is_closed = False

    async def waits() -> AsyncGenerator[int, None]:
        nonlocal is_closed
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            is_closed = True

    async with aclosing(with_heartbeats(waits(), PERIOD_SECONDS)) as messages:
        assert await anext(messages) == 0
        assert isinstance(await anext(messages), Heartbeat)
    assert is_closed


async def test_what_a_stream_sets_in_its_context_stays_set() -> None:
    async def remembers() -> AsyncGenerator[int, None]:
        _number.set(7)
        yield 0
        yield _number.get()

    assert await kinds(with_heartbeats(remembers(), PERIOD_SECONDS)) == [0, 7]


async def test_a_stream_that_is_heard_of_is_passed_on() -> None:
    beating = with_heartbeats(spoken(0, 5, 0), PERIOD_SECONDS)
    heard = await kinds(while_heard(beating, 3, 2 * PERIOD_SECONDS))
    assert [kind for kind in heard if kind != "beat"] == [0, 1, 2]


async def test_one_that_falls_silent_is_lost() -> None:
    heard = []
    with pytest.raises(ReplicaSilent):
        async for message in while_heard(spoken(0, 100), 3, PERIOD_SECONDS):
            heard.append(message)
    assert heard == [0]
