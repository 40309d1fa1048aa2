"""A machine that is cut off or loses power closes no connection: whoever waits for a message of it would wait for ever.
So a stream that has nothing to say says that it is there, and one that does not even say that is lost.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

from serve_app.errors import ReplicaSilent

M = TypeVar("M")

HEARTBEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing to say, still here. For the next hop only."""


async def with_heartbeats(
    messages: AsyncGenerator[M, None], period_seconds: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[M | Heartbeat, None]:
    """The same messages, and one of these whenever the next takes longer than the period."""
    # One for all tasks, so that what the generator sets in its context stays set.
    context = copy_context()
    async with aclosing(messages):
        while True:
            coming = asyncio.create_task(_next(messages), context=context)
            try:
                while not await _comes_within(coming, period_seconds):
                    yield Heartbeat()
            finally:
                # A generator that runs cannot be closed.
                coming.cancel()
                await asyncio.wait({coming})
            message = coming.result()
            if message is None:
                return
            yield message


async def while_heard(
    messages: AsyncIterator[M | Heartbeat], max_missed: int, period_seconds: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[M | Heartbeat, None]:
    """The same messages. Raises ReplicaSilent once so many heartbeats were missed.

    They are counted: when this process stands still for a while, that is one of them, and nobody is lost.
    """
    while True:
        coming = asyncio.create_task(_next(messages))
        num_missed = 0
        try:
            while not await _comes_within(coming, period_seconds):
                num_missed += 1
                if num_missed >= max_missed:
                    raise ReplicaSilent("a replica is not heard of any more; try again")
        finally:
            coming.cancel()
        message = coming.result()
        if message is None:
            return
        yield message


async def _next(messages: AsyncIterator[M]) -> M | None:
    """None at the end."""
    return await anext(messages, None)


async def _comes_within(coming: asyncio.Task[M], seconds: float) -> bool:
    return bool((await asyncio.wait({coming}, timeout=seconds))[0])
