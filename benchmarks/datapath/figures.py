"""The data path's arithmetic: which chunks are due when, how late they were, how many streams went well.

At a pace of exactly real time the growing chunks (1, 1, 2, 2, 4, 4, ... frames) alone make a player wait that starts
with the first: it must hold some audio back. So a chunk's lateness is counted against the moment at which the engine
had its last frame, seen from the first chunk: whatever remains is the data path's own doing, and a player with as much
more in hand does not notice it.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FRAME_SECONDS = 0.08
FRAME_BYTES = 3840
HEADER_BYTES = 44
UNDERRUN_SECONDS = 0.1
_LARGEST_CHUNK = 4
"""Frames of a message whose listener has nothing in hand."""
_RESOLUTION = 8
"""The search ends when it knows the number of streams to one part in so many."""


def chunk_frames(num_frames: int, largest: int = _LARGEST_CHUNK) -> list[int]:
    """The engine's groups: each size comes twice, and what is left comes last."""
    sizes: list[int] = []
    while (left := num_frames - sum(sizes)) > 0:
        sizes.append(min(2 ** (len(sizes) // 2), largest, left))
    return sizes


def chunk_ends(reads: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """When each chunk came, and how many frames of the stream it made whole. `reads`: time and bytes received until
    then, the header included.

    The engine moves the ends of chunks, so that those of a batch do not travel together. A read of more frames than the
    largest chunk holds several: it counts by the first of them, which has waited longest.
    """
    ends: list[tuple[float, int]] = []
    before = 0
    for at, total in reads:
        frames = max(0, total - HEADER_BYTES) // FRAME_BYTES
        if frames > before:
            ends.append((at, min(frames, before + _LARGEST_CHUNK)))
            before = frames
    return ends


def worst_lateness(ends: Sequence[tuple[float, int]], since: float = -math.inf) -> float | None:
    """Seconds, of the chunks that came at `since` or later; None where none is left: the first one sets the clock."""
    late = [at - ends[0][0] - FRAME_SECONDS * (frames - ends[0][1]) for at, frames in ends[1:] if at >= since]
    return max(late, default=None)


def milliseconds(seconds: Sequence[float], *ranks: float) -> list[float | None]:
    """Percentiles, rounded to 0.1; None for each where nothing was measured."""
    if not seconds:
        return [None] * len(ranks)
    return [round(float(np.percentile(seconds, rank)) * 1000, 1) for rank in ranks]


def added(ours: float | None, bare: float | None) -> float | None:
    return None if ours is None or bare is None else round(ours - bare, 1)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one role over a window, its own idling taken off."""

    ms_per_chunk: float
    ms_per_stream_second: float
    idle_ms_per_second: float


def costs(
    busy: Mapping[str, float], idle_per_second: Mapping[str, float], window_seconds: float, chunks: int, streams: int
) -> dict[str, Cost]:
    """`busy`: CPU seconds by role over the window; `idle_per_second`: of the same roles before any stream."""
    found: dict[str, Cost] = {}
    for role, seconds in busy.items():
        idle = idle_per_second.get(role, 0.0)
        net_ms = max(0.0, seconds - idle * window_seconds) * 1000
        found[role] = Cost(
            ms_per_chunk=round(net_ms / max(1, chunks), 3),
            ms_per_stream_second=round(net_ms / (streams * window_seconds), 3),
            idle_ms_per_second=round(idle * 1000, 1),
        )
    return found


@dataclass(frozen=True, slots=True)
class Limit:
    """`most` streams went well; `fewest_failing` did not, None where nothing failed."""

    most: int
    fewest_failing: int | None
    narrowed: bool
    """False where the time, the largest level or the client ended the search early."""


async def find_limit(
    goes_well: Callable[[int], Awaitable[bool]], first: int, largest: int, has_time: Callable[[], bool]
) -> Limit:
    """Doubles until a level fails, then halves the gap."""
    good, bad, streams = 0, None, first
    while has_time():
        if await goes_well(streams):
            good = streams
        else:
            bad = streams
        if bad is None and good >= largest:
            break
        if bad is not None and bad - good <= max(1, good // _RESOLUTION):
            return Limit(good, bad, narrowed=True)
        streams = min(2 * good, largest) if bad is None else (good + bad) // 2
    return Limit(good, bad, narrowed=False)
