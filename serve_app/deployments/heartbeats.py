"""Heartbeats on streams between replicas.

A machine that loses power or network closes no connection, so its callers would wait for ever. While a stream has no
message, it sends heartbeats. A stream without heartbeats is lost.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

from serve_app.errors import ReplicaSilent

M = TypeVar("M")

HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life between messages. For the next hop only."""


async def with_heartbeats(
    messages: AsyncGenerator[M, None], period_seconds: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[M | Heartbeat, None]:
    """The same messages, with a heartbeat after each period without one."""
    # One context for all tasks, so that context variables keep the values that the generator sets.
    context = copy_context()
    async with aclosing(messages):
        while True:
            coming = asyncio.create_task(_next(messages), context=context)
            try:
                while not await _comes_within(coming, period_seconds):
                    yield Heartbeat()
            finally:
                # A running generator cannot be closed.
                coming.cancel()
                await asyncio.wait({coming})
            message = coming.result()
            if message is None:
                return
            yield message


async def while_heard(
    messages: AsyncIterator[M | Heartbeat], max_missed: int, period_seconds: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[M | Heartbeat, None]:
    """The same messages. Raises ReplicaSilent after `max_missed` missed heartbeats in a row.

    They are counted, not timed: if this process itself pauses, it misses one heartbeat and loses no stream.
    """
    while True:
        coming = asyncio.create_task(_next(messages))
        num_missed = 0
        try:
            while not await _comes_within(coming, period_seconds):
                num_missed += 1
                if num_missed >= max_missed:
                    raise ReplicaSilent("a replica does not answer any more; try again")
        finally:
            coming.cancel()
        message = coming.result()
        if message is None:
            return
        yield message


async def _next(messages: AsyncIterator[M]) -> M | None:
    """The next message, None at the end."""
    return await anext(messages, None)


async def _comes_within(coming: asyncio.Task[M], seconds: float) -> bool:
    return bool((await asyncio.wait({coming}, timeout=seconds))[0])
