"""What this machine's processor has: threads for a replica, and its last-level cache."""

import os
from pathlib import Path

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def available_cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0))


def num_threads(configured: int) -> int:
    """`configured`, or half of the available cores for 0: generator and decoder share a machine."""
    return configured or max(1, available_cores() // 2)


def last_level_cache_bytes() -> int:
    """0 where nothing tells."""
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = [path.read_text().strip() for path in _CACHES.glob("index*/size")]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units), default=0)
