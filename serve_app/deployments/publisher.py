"""What a replica says of itself on a slow timer, so that nothing is said per frame."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from serve_app.errors import GenerationFailed

_log = logging.getLogger(__name__)

_PERIOD_SECONDS = 1.0


class Publisher:
    """Calls `publish` for as long as the replica lives; to be kept, since the loop keeps no task."""

    def __init__(self, publish: Callable[[], Awaitable[None]], period_seconds: float = _PERIOD_SECONDS) -> None:
        self._publish = publish
        self._period_seconds = period_seconds
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                await self._publish()
                await asyncio.sleep(self._period_seconds)
        except GenerationFailed:
            # The health check says so too, and has the replica replaced.
            _log.warning("what this replica holds is not published any more: its thread has failed")
