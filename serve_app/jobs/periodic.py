"""Work that repeats for as long as a process lives."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from serve_app.errors import StorageFailed

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Wait before the next try after the database failed."""


async def repeat(
    name: str, work: Callable[[], Awaitable[bool]], period_seconds: float, wake: asyncio.Event | None = None
) -> None:
    """Call `work` for ever: again at once if it returned True, else after the period or when `wake` is set.

    StorageFailed is logged and tried again. Any other error ends the loop.
    """
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            pause = 0.0 if await work() else period_seconds
        except StorageFailed as error:
            _log.warning("%s: the database failed (%s), trying again", name, type(error).__name__)
            pause = PAUSE_SECONDS
        # Not `wait_for`: before Python 3.12 it swallows a cancellation that arrives together with `wake`.
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake.wait()
