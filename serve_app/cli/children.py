"""The processes that this one has started."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")


def children() -> frozenset[int]:
    """Those that run now. Empty where the system does not list them."""
    return frozenset(int(child) for task in _TASKS.glob("*/children") for child in task.read_text().split())


def end(processes: Iterable[int]) -> None:
    """Ask them to end."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
