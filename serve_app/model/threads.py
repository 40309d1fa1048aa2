"""How many CPU threads a replica takes."""

import os


def num_threads(configured: int) -> int:
    """`configured`, or half of this process's cores for 0: generator and decoder share a machine."""
    return configured or max(1, len(os.sched_getaffinity(0)) // 2)
