"""Threads for work that would stall an event loop. Where all are busy, keys take turns."""

import os
from collections.abc import Callable
from typing import TypeVar

from serve_app.turns import FairThreads, TurnLimits, current_owner

T = TypeVar("T")
_WAITING, _WAITING_OF_KEY = 4096, 1024
"""More than the requests that an ingress answers at once, each of which waits for one piece of work."""
_WAIT_SECONDS = 600.0


class CostlyWork:
    """One kind of work. Not asyncio's own threads: those are nobody's in particular."""

    def __init__(self, name: str, what: str) -> None:
        """what: waits, as errors say it."""
        at_once = max(2, os.cpu_count() or 1)
        self._threads = FairThreads(name, TurnLimits(what, at_once, _WAITING, _WAITING_OF_KEY, _WAIT_SECONDS))

    async def done(self, work: Callable[[], T]) -> T:
        """What `work` returns, done for the key that the caller works for. Raises Overloaded."""
        return await self._threads.run(current_owner(), work)


ENCODING = CostlyWork("encode", "answers wait to be encoded")
PREPARING = CostlyWork("prepare", "texts wait to be read")
