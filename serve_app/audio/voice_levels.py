"""Levels, pauses and pitch of a recording in which one person speaks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.messages import SAMPLE_RATE_HZ

STEP_SAMPLES = SAMPLE_RATE_HZ // 50
"""20 ms."""
_FULL_SCALE = 32_768.0
_FLOOR_DBFS = -80.0
_SPEECH_RANGE_DB = 30.0
"""Speech is at most so far below its loudest parts."""
_LOWEST_HZ, _HIGHEST_HZ = 60, 400
_PITCH_SAMPLES = SAMPLE_RATE_HZ // 10
"""100 ms hold six periods of the lowest voice. With 50 ms, the median of one short text in eight was far off."""
_PERIODIC = 0.5
_SAME_PERIOD = 0.8
"""Of the strongest correlation: a sound that repeats after n samples does so after 2 n as well. The sound of a codec
may even do so better, since its errors repeat with its frames."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Steps start..end-1 without speech."""

    start: int
    end: int

    @property
    def middle(self) -> int:
        return (self.start + self.end) // 2


class Levels:
    """The level of each 20 ms of a recording, and which of them hold speech."""

    def __init__(self, samples: NDArray[np.int16]) -> None:
        """samples: mono at 24 kHz, at least one step."""
        whole = len(samples) // STEP_SAMPLES * STEP_SAMPLES
        steps = samples[:whole].reshape(-1, STEP_SAMPLES).astype(np.float64) / _FULL_SCALE
        steps -= steps.mean(axis=1, keepdims=True)
        self.dbfs = np.maximum(10 * np.log10(np.maximum((steps**2).mean(axis=1), 1e-12)), _FLOOR_DBFS)
        self.is_speech = self.dbfs > np.percentile(self.dbfs, 95) - _SPEECH_RANGE_DB

    @property
    def loudness_dbfs(self) -> float:
        """RMS of what holds speech."""
        return float(10 * np.log10(np.mean(10 ** (self.dbfs[self.is_speech] / 10))))

    @property
    def signal_to_noise_db(self) -> float:
        """Of the speech to the quietest tenth, at most the range of 16 bits' use."""
        return self.loudness_dbfs - float(np.percentile(self.dbfs, 5))

    def pauses(self, min_seconds: float) -> list[Pause]:
        """Between the first and the last speech."""
        spoken = np.flatnonzero(self.is_speech)
        gaps = np.flatnonzero(np.diff(spoken) - 1 >= round(min_seconds * SAMPLE_RATE_HZ / STEP_SAMPLES))
        return [Pause(int(spoken[gap]) + 1, int(spoken[gap + 1])) for gap in gaps]

    @property
    def longest_silence_seconds(self) -> float:
        """The longest stretch without speech, also at the beginning or the end."""
        spoken = np.flatnonzero(np.concatenate([[True], self.is_speech, [True]]))
        return float((np.diff(spoken).max() - 1) * STEP_SAMPLES / SAMPLE_RATE_HZ)

    def speech_steps(self) -> tuple[int, int]:
        """First and last step of speech, the latter excluded."""
        spoken = np.flatnonzero(self.is_speech)
        return int(spoken[0]), int(spoken[-1]) + 1


def pitch_hz(samples: NDArray[np.int16]) -> float | None:
    """Median pitch of the voiced parts, between 60 and 400 Hz. None where there are none."""
    found = [
        pitch
        for start in range(0, len(samples) - _PITCH_SAMPLES + 1, _PITCH_SAMPLES // 2)
        if (pitch := _pitch_of(samples[start : start + _PITCH_SAMPLES].astype(np.float64))) is not None
    ]
    return float(np.median(found)) if found else None


def _pitch_of(sound: NDArray[np.float64]) -> float | None:
    sound = sound - sound.mean()
    correlation = np.fft.irfft(np.abs(np.fft.rfft(sound, 2 * len(sound))) ** 2)[: len(sound)]
    if correlation[0] < len(sound):  # less than one step of the 16 bits
        return None
    lags = np.arange(len(sound))
    # A longer lag has fewer samples to sum.
    correlation = correlation / correlation[0] * (len(sound) / (len(sound) - lags))
    shortest, longest = SAMPLE_RATE_HZ // _HIGHEST_HZ, SAMPLE_RATE_HZ // _LOWEST_HZ
    likely = correlation[shortest : longest + 1]
    if likely.max() < _PERIODIC:
        return None
    first = int(np.argmax(likely > _SAME_PERIOD * likely.max()))
    return SAMPLE_RATE_HZ / (shortest + first + int(likely[first : first + shortest // 2].argmax()))
