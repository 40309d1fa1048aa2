"""Admission: how many sequences may run at once, by measured step time, and when a refused request should retry."""

import math
from collections.abc import Sequence as Rows

from serve_app.engine.pacing import Pace
from serve_app.engine.sequence import Sequence
from serve_app.engine.step_times import StepTimes
from serve_app.errors import Overloaded
from serve_app.settings import EngineSettings

_MAX_RETRY_SECONDS = 60
"""Most sequences end long before their maximum length."""


class Admission:
    """The engine asks it before it gives a row to a sequence."""

    def __init__(self, settings: EngineSettings, step_times: StepTimes, pace: Pace) -> None:
        self.max_step_ms = settings.max_step_ms
        self._step_times = step_times
        self._pace = pace
        self.num_refused = 0

    @property
    def capacity(self) -> int:
        """How many rows may be in use."""
        return self._step_times.capacity(self.max_step_ms)

    def refuse(self, reason: str, rows: Rows[Sequence], now: float) -> Overloaded:
        """The error for a refused request. It may retry when the first of `rows` must have ended."""
        self.num_refused += 1
        step_seconds = self._step_times.estimate_ms(max(1, len(rows))) / 1000
        seconds = min((self._pace.max_seconds_left(sequence, step_seconds, now) for sequence in rows), default=0.0)
        return Overloaded(reason, min(max(1, math.ceil(seconds)), _MAX_RETRY_SECONDS))
