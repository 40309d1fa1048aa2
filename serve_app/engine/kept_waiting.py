"""How long a thread waited for a processor that others had."""

import contextlib
from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Nanoseconds run, nanoseconds waited, turns taken: the kernel's Documentation/scheduler/sched-stats.rst."""


class KeptWaiting:
    """Of the thread that asks. Always 0 where the system does not tell."""

    def __init__(self) -> None:
        self._before: int | None = None

    def __call__(self) -> float:
        """In seconds, since it was last called. 0 at first."""
        total = None
        with contextlib.suppress(OSError, ValueError, IndexError):
            total = int(_SCHEDSTAT.read_text().split()[1])
        before, self._before = self._before, total
        return 0.0 if total is None or before is None else (total - before) / 1e9
