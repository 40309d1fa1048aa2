"""Work that a cancelled caller still waits for."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` whole. A caller that is cancelled meanwhile learns of it once the work has ended.

    `asyncio.shield` alone would let the caller go on at once, and give back what the work needs.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # the cancellation says enough
        raise
