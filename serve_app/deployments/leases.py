"""Closes streams whose consumer is gone without a word, after their deadline."""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from serve_app import metrics
from serve_app.errors import GenerationFailed
from serve_app.metrics import NO_METER, Meter

_log = logging.getLogger(__name__)
M = TypeVar("M")

LEASE_SECONDS = 60.0
"""Serve takes messages as they come or, throughput-optimised, as fast as the client reads. No client is this slow."""


@dataclass(slots=True, eq=False)
class _Lease:
    stream: AsyncGenerator[Any, None]
    expires_at: float
    idle_since: float | None = None
    """When the last message was handed out, None while the consumer waits for the next."""
    is_closed: bool = False


class Leases:
    """The leases of one replica's streams.

    Cancelled, closed and ended streams free their slots by themselves. A framework may forget a stream, though: a
    generator that is still referenced and never resumed would hold its slot for ever.
    """

    def __init__(self, part: str, meter: Meter = NO_METER, clock: Callable[[], float] = time.monotonic) -> None:
        self._part = part
        self._meter = meter
        self._clock = clock
        self._leases: set[_Lease] = set()

    async def keep(self, stream: AsyncGenerator[M, None], timeout_seconds: float) -> AsyncGenerator[M, None]:
        """The same messages. Raises GenerationFailed if the consumer comes back after the stream was closed."""
        lease = _Lease(stream, self._clock() + timeout_seconds)
        self._leases.add(lease)
        try:
            async with aclosing(stream):
                async for message in stream:
                    lease.idle_since = self._clock()
                    yield message
                    if lease.is_closed:
                        raise GenerationFailed("the stream's time is up")
                    lease.idle_since = None
        finally:
            self._leases.discard(lease)

    async def reap(self) -> None:
        """Close the streams past their deadline whose consumer has taken no message for `LEASE_SECONDS`."""
        now = self._clock()
        for lease in [lease for lease in self._leases if _is_over(lease, now)]:
            self._leases.discard(lease)
            lease.is_closed = True
            _log.warning("a stream of the %s was closed: its consumer takes no messages", self._part)
            self._meter.count(metrics.LEASES_EXPIRED, part=self._part)
            await lease.stream.aclose()


def _is_over(lease: _Lease, now: float) -> bool:
    idle_since = lease.idle_since
    return idle_since is not None and now > lease.expires_at and now - idle_since > LEASE_SECONDS
