"""Detects a stream that fell silent and does not end."""

import numpy as np
from numpy.typing import NDArray

from serve_app.messages import SAMPLE_RATE_HZ

SILENCE_DBFS = -60.0
"""A frame with a lower RMS is silent. It is below any room's noise, so a breath before a word does not count."""

_SILENCE_RMS = 32768.0 * 10.0 ** (SILENCE_DBFS / 20.0)


class SilenceGuard:
    """Measures the silent tail of one stream, also if the stream was silent from its start."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_samples = limit_seconds * SAMPLE_RATE_HZ
        self._silent_samples = 0

    def feed(self, samples: NDArray[np.int16]) -> bool:
        """Take the next frame. True once the silent tail is longer than the limit."""
        sound = samples.astype(np.float32)
        energy = float(sound @ sound)
        is_silent = energy < _SILENCE_RMS**2 * len(samples)
        self._silent_samples = self._silent_samples + len(samples) if is_silent else 0
        return self._silent_samples > self._limit_samples
