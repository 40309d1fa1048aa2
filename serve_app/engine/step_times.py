"""How long a step takes by its number of rows, as measured; and so how many rows keep real time."""

import statistics
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

_STEPS_KEPT = 15
"""Of each size, the latest; their median is its time, so that a step that stalls changes nothing."""
_STEPS_TO_BELIEVE = 5
"""The first steps of a size choose kernels and miss caches: a size with fewer is not measured yet."""
_STEPS_TO_DOUBT = 1000
"""A size that was not run for so many steps (a minute of speech) may have been slow for a reason that is gone."""

Curve = list[tuple[int, float]]
"""Rows and milliseconds, rising in both."""


@dataclass(slots=True)
class _Size:
    """Steps of one number of rows."""

    rows: int
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_STEPS_KEPT))
    median_ms: float = 0.0
    last_step: int = 0

    @property
    def is_measured(self) -> bool:
        return len(self.recent_ms) >= _STEPS_TO_BELIEVE


class StepTimes:
    """A step's time is what passed since the one before ended: what a listener waits for the next frame."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._sizes: dict[int, _Size] = {}
        self._num_steps = 0
        self._ended_at: float | None = None

    def note_end(self, rows: int, now: float) -> None:
        """A step of so many rows ended."""
        if self._ended_at is not None:
            self._record(rows, 1000 * (now - self._ended_at))
        self._ended_at = now

    def note_rest(self) -> None:
        """The next step will not follow the last one at once, so what lies between is not its time."""
        self._ended_at = None

    def estimate_ms(self, rows: int) -> float:
        """Linear between the sizes that were measured, and beyond; 0 where none was."""
        return _at(_curve(self._measured()), rows)

    def capacity(self, max_ms: float) -> int:
        """How many rows a step may have and still end in less than `max_ms`; one at least. 0 `max_ms` is no limit.

        What was measured long ago may open the door, but not shut it: then one row more than lately is tried, and
        measured, before the next. So it is with a size that was never run.
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
        return self._num_steps - size.last_step < _STEPS_TO_DOUBT

    def _measured(self) -> list[_Size]:
        return [size for size in self._sizes.values() if size.is_measured]


def _curve(sizes: Iterable[_Size]) -> Curve:
    """More rows never take less time; where measurements say so, the later one is believed."""
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
    """The largest number of rows up to `limit` whose step ends before `max_ms`."""
    if not curve:
        return 0
    return bisect_left(range(1, limit + 1), True, key=lambda rows: _at(curve, rows) >= max_ms)


def _largest(sizes: list[_Size]) -> int:
    return max((size.rows for size in sizes), default=0)
