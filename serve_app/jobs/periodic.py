"""Work that is done again and again for as long as a process lives."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from serve_app.errors import StorageFailed

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Before a database that failed is asked again."""


async def repeat(
    what: str, work: Callable[[], Awaitable[bool]], period_seconds: float, wake: asyncio.Event | None = None
) -> None:
    """Never returns: again at once where `work` returned True, else after the period, or sooner at `wake`.

    A database that fails is asked again: nothing is lost by that. What else `work` raises ends it.
    """
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            pause = 0.0 if await work() else period_seconds
        except StorageFailed as error:
            _log.warning("%s: the database failed (%s), trying again", what, type(error).__name__)
            pause = PAUSE_SECONDS
        # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes along with what it waits for.
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake.wait()
