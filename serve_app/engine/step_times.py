"""Measures how long a decode step takes by its number of rows, and so how many rows keep real time."""

import statistics
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

_STEPS_KEPT = 15
"""The latest steps of each size. Their median is its time, so that a step that stalls changes nothing."""
_MIN_STEPS = 5
"""A size with fewer steps counts as unmeasured: the first ones choose kernels and miss caches."""
_FRESH_STEPS = 1000
"""A size that was not run for this many steps (a minute of speech) may be faster by now."""

Curve = list[tuple[int, float]]
"""Rows and milliseconds, rising in both."""


@dataclass(slots=True)
class _Size:
    """The steps of one batch size."""

    rows: int
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_STEPS_KEPT))
    median_ms: float = 0.0
    last_step: int = 0

    @property
    def is_measured(self) -> bool:
        return len(self.recent_ms) >= _MIN_STEPS


class StepTimes:
    """A step's time runs from the end of the step before, so it is how long a listener waits for the next frame."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._sizes: dict[int, _Size] = {}
        self._num_steps = 0
        self._ended_at: float | None = None

    def note_end(self, rows: int, now: float) -> None:
        """Record that a step of `rows` rows ended."""
        if self._ended_at is not None:
            self._record(rows, 1000 * (now - self._ended_at))
        self._ended_at = now

    def note_rest(self) -> None:
        """Do not count the time until the next step: the engine is idle."""
        self._ended_at = None

    def estimate_ms(self, rows: int) -> float:
        """Linear between the measured sizes, and beyond them. 0 where none is measured."""
        return _at(_curve(self._measured()), rows)

    def capacity(self, max_ms: float) -> int:
        """How many rows a step may have and still end within `max_ms`; at least one. 0 for `max_ms` is no limit.

        Old measurements may admit rows but not refuse them. A size that only old measurements refuse, or that was
        never run, is tried one row at a time, and measured before the next.
        """
        measured = self._measured()
        if not measured or max_ms == 0:
            return self._max_rows
        fresh = [size for size in measured if self._is_fresh(size)]
        known = _rows_below(max_ms, _curve(measured), _largest(measured))
        tried = _rows_below(max_ms, _curve(fresh), _largest(fresh) + 1)
        return min(max(1, known, tried), self._max_rows)

    def _record(self, rows: int, ms: float) -> None:
        self._num_steps += 1
        size = self._sizes.setdefault(rows, _Size(rows))
        if not self._is_fresh(size):
            size.recent_ms.clear()
        size.recent_ms.append(ms)
        size.median_ms = statistics.median(size.recent_ms)
        size.last_step = self._num_steps

    def _is_fresh(self, size: _Size) -> bool:
        return self._num_steps - size.last_step < _FRESH_STEPS

    def _measured(self) -> list[_Size]:
        return [size for size in self._sizes.values() if size.is_measured]


def _curve(sizes: Iterable[_Size]) -> Curve:
    """Rising in both: where a larger size was measured to be faster, the later measurement counts."""
    curve: Curve = []
    for size in sorted(sizes, key=lambda size: -size.last_step):
        place = bisect_left(curve, (size.rows, 0.0))
        at_least = curve[place - 1][1] if place else 0.0
        at_most = curve[place][1] if place < len(curve) else float("inf")
        insort(curve, (size.rows, min(max(size.median_ms, at_least), at_most)))
    return curve


def _at(curve: Curve, rows: int) -> float:
    place = bisect_left(curve, (rows, 0.0))
    if len(curve) < 2 or place == 0:
        return curve[0][1] if curve else 0.0
    (low, low_ms), (high, high_ms) = curve[min(place, len(curve) - 1) - 1 :][:2]
    return low_ms + (rows - low) / (high - low) * (high_ms - low_ms)


def _rows_below(max_ms: float, curve: Curve, limit: int) -> int:
    """The largest number of rows, up to `limit`, whose step ends before `max_ms`."""
    if not curve:
        return 0
    return bisect_left(range(1, limit + 1), True, key=lambda rows: _at(curve, rows) >= max_ms)


def _largest(sizes: list[_Size]) -> int:
    return max((size.rows for size in sizes), default=0)
