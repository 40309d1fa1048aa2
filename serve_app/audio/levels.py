"""Whether a clip holds sound, and what its level says about its use as a voice."""

import numpy as np
from numpy.typing import NDArray

from serve_app.messages import SAMPLE_RATE_HZ

_WINDOW_SAMPLES = SAMPLE_RATE_HZ // 50
_EDGE_WINDOWS = 1
"""Left out at either end, where a constant offset begins and stops with a click."""
_FULL_SCALE = 32_767
_SILENT_DBFS = -60.0
"""RMS of 20 ms. Below it 16 bits hold a voice in 5, and a microphone's own noise is louder."""
_QUIET_DBFS = -40.0
_PAUSE_DB = 40.0
"""Below the loudest 20 ms."""
_MIN_SHARE_OF_SOUND = 0.2
_CLIPPED_SHARE = 0.001
_NEARLY_FULL = 0.97
_FULL = 0.9999


def loudest_dbfs(pcm: NDArray[np.int16]) -> float:
    """Level of the loudest 20 ms, a constant offset left out. Full scale is 0 dB for a square wave."""
    return float(_window_dbfs(pcm).max(initial=-np.inf))


def is_silent(pcm: NDArray[np.int16]) -> bool:
    return loudest_dbfs(pcm) < _SILENT_DBFS


def level_notices(pcm: NDArray[np.int16], num_clipped: int, num_frames: int) -> tuple[str, ...]:
    """What the caller should know about a clip that is used all the same.

    num_clipped, num_frames: of the recording before it was resampled.
    """
    levels = _window_dbfs(pcm)
    loudest = float(levels.max(initial=-np.inf))
    notices: list[str] = []
    if num_clipped > _CLIPPED_SHARE * num_frames:
        notices.append(
            f"the audio is clipped in {num_clipped / num_frames:.1%} of its samples; record it at a lower level"
        )
    if loudest < _QUIET_DBFS:
        notices.append(
            f"the audio is very quiet (its loudest part has {loudest:.0f} dBFS); record it at a higher level"
        )
    with_sound = int(np.count_nonzero(levels > max(_SILENT_DBFS, loudest - _PAUSE_DB)))
    if with_sound < _MIN_SHARE_OF_SOUND * len(levels):
        seconds = _WINDOW_SAMPLES / SAMPLE_RATE_HZ
        notices.append(
            f"the audio is mostly silence ({with_sound * seconds:.1f} of {len(levels) * seconds:.1f} seconds hold "
            "sound); cut the silence off"
        )
    return tuple(notices)


def clipped_frames(samples: NDArray[np.float64], peak: float) -> int:
    """Frames in which a channel stands at its ceiling: three in a row that are equal and loud, or at full scale.

    samples: [frames, channels]
    peak: the largest of their magnitudes.
    """
    if len(samples) < 3 or peak < _NEARLY_FULL:
        return 0
    level = np.abs(samples).max(axis=1)
    first, second, third = level[:-2], level[1:-1], level[2:]
    flat = (first == second) & (second == third) & (second >= _NEARLY_FULL)
    full = np.minimum(np.minimum(first, second), third) >= _FULL
    return int(np.count_nonzero(flat | full))


def _window_dbfs(pcm: NDArray[np.int16]) -> NDArray[np.float64]:
    samples = pcm.astype(np.float64) / _FULL_SCALE
    whole = len(samples) // _WINDOW_SAMPLES * _WINDOW_SAMPLES
    windows = samples[:whole].reshape(-1, _WINDOW_SAMPLES) if whole else samples[None, :]
    if len(windows) > 2 * _EDGE_WINDOWS + 1:
        windows = windows[_EDGE_WINDOWS:-_EDGE_WINDOWS]
    windows = windows - windows.mean(axis=1, keepdims=True)
    return 10 * np.log10(np.maximum((windows**2).mean(axis=1), 1e-12))
