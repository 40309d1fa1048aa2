"""How many are let in, by what was measured; and when the others should come again."""

import math
from collections.abc import Sequence as Rows

from serve_app.engine.pacing import Pace
from serve_app.engine.sequence import Sequence
from serve_app.engine.step_times import StepTimes
from serve_app.errors import Overloaded
from serve_app.settings import EngineSettings

_LONGEST_RETRY_SECONDS = 60
"""Sequences mostly end long before they must."""


class Door:
    """Asked wherever a row could be given."""

    def __init__(self, settings: EngineSettings, step_times: StepTimes, pace: Pace) -> None:
        self.max_step_ms = settings.max_step_ms
        self._step_times = step_times
        self._pace = pace
        self.num_refused = 0

    @property
    def capacity(self) -> int:
        """How many rows may be taken."""
        return self._step_times.capacity(self.max_step_ms)

    def refuse(self, reason: str, rows: Rows[Sequence], now: float) -> Overloaded:
        """To be raised or emitted. A place comes free when the first of `rows` has ended."""
        self.num_refused += 1
        step_seconds = self._step_times.estimate_ms(max(1, len(rows))) / 1000
        seconds = min((self._pace.longest_left(sequence, step_seconds, now) for sequence in rows), default=0.0)
        return Overloaded(reason, min(max(1, math.ceil(seconds)), _LONGEST_RETRY_SECONDS))
