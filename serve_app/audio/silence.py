"""Silence in speech, for finding its pauses and its end."""

import numpy as np
from numpy.typing import NDArray

from serve_app.messages import FRAME_SAMPLES, SAMPLE_RATE_HZ

SILENCE_DBFS = -60.0
"""A frame with a lower RMS is silent. It is below any room's noise, so a breath before a word does not count."""

_SILENCE_RMS = 32768.0 * 10.0 ** (SILENCE_DBFS / 20.0)
_STEP = FRAME_SAMPLES // 8
"""10 ms."""


def is_silent(samples: NDArray[np.int16]) -> bool:
    sound = samples.astype(np.float32)
    return float(sound @ sound) < _SILENCE_RMS**2 * max(1, len(samples))


def silent_tail_samples(samples: NDArray[np.int16]) -> int:
    """Samples of silence at the end, in steps of 10 ms."""
    end = len(samples)
    while end >= _STEP and is_silent(samples[end - _STEP : end]):
        end -= _STEP
    return len(samples) - end


class SilenceGuard:
    """Measures the silent tail of one stream, also if the stream was silent from its start."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_samples = limit_seconds * SAMPLE_RATE_HZ
        self._silent_samples = 0

    def feed(self, samples: NDArray[np.int16]) -> bool:
        """Take the next frame. True once the stream ends in more silence than the limit."""
        self._silent_samples = self._silent_samples + len(samples) if is_silent(samples) else 0
        return self._silent_samples > self._limit_samples
