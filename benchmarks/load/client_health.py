"""What measuring costs the client itself. A client with no time to spare measures itself: its run is invalid."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.common.records import Record

MAX_CPU_SHARE = 0.8
"""Of one core: the client is one thread, which from here on queues what arrives."""
MAX_LOOP_LAG_P99_MS = 30.0
"""Arrivals are stamped this much too late. A frame of speech is 80 ms."""
MAX_SEND_LATENESS_P99_MS = 50.0
"""Requests sent this long after they were due are another load than the one asked for."""
_SAMPLE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Health:
    """Of one phase of a run."""

    label: str
    cpu_share: float
    loop_lag_p99_ms: float | None
    loop_lag_max_ms: float | None
    send_lateness_p99_ms: float | None
    """None where nothing was due at a time: in a closed loop."""

    def complaints(self) -> list[str]:
        limits = (
            (self.cpu_share, MAX_CPU_SHARE, "the client used {:.2f} of a core, of at most {:.2f}"),
            (self.loop_lag_p99_ms, MAX_LOOP_LAG_P99_MS, "the client's loop lagged {:.0f} ms at p99, of at most {:.0f}"),
            (
                self.send_lateness_p99_ms,
                MAX_SEND_LATENESS_P99_MS,
                "the client cannot make this rate: it sent {:.0f} ms late at p99, of at most {:.0f}",
            ),
        )
        return [
            f"{self.label}: {text.format(value, limit)}"
            for value, limit, text in limits
            if value is not None and value > limit
        ]


class Watch:
    """Gathers a Health for every phase it is held over."""

    def __init__(self) -> None:
        self.phases: list[Health] = []

    @asynccontextmanager
    async def over(self, label: str, records: Sequence[Record], is_open: bool) -> AsyncIterator[None]:
        """`records` may grow meanwhile; those that join it are the phase's."""
        lags: list[float] = []
        began, cpu_began, known = time.perf_counter(), time.process_time(), len(records)
        sampler = asyncio.create_task(_sample_lag(lags))
        try:
            yield
        finally:
            sampler.cancel()
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
            # A conversation's later turns are due when the one before ended, which is no promise of the client's.
            late = [r.sent_at - r.due_at for r in records[known:] if is_open and r.turn == 0]
            self.phases.append(
                Health(
                    label=label,
                    cpu_share=round(cpu / wall, 4),
                    loop_lag_p99_ms=_percentile_ms(lags, 99),
                    loop_lag_max_ms=_percentile_ms(lags, 100),
                    send_lateness_p99_ms=_percentile_ms(late, 99),
                )
            )

    def complaints(self) -> list[str]:
        return [complaint for phase in self.phases for complaint in phase.complaints()]

    def as_dict(self) -> dict[str, Any]:
        """The worst phase, and each."""
        return {
            **{name: self._worst(name) for name in ("cpu_share", "loop_lag_p99_ms", "send_lateness_p99_ms")},
            "phases": [asdict(phase) for phase in self.phases],
        }

    def _worst(self, name: str) -> float | None:
        return max((value for phase in self.phases if (value := getattr(phase, name)) is not None), default=None)


async def _sample_lag(lags: list[float]) -> None:
    """How much later than asked the loop comes back."""
    while True:
        due = time.perf_counter() + _SAMPLE_SECONDS
        await asyncio.sleep(_SAMPLE_SECONDS)
        lags.append(max(0.0, time.perf_counter() - due))


def _percentile_ms(seconds: Sequence[float], rank: float) -> float | None:
    return round(float(np.percentile(seconds, rank)) * 1000, 3) if seconds else None
