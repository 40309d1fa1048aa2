"""A recogniser that needs no model: which of N texts is this, by how it differs from espeak-ng's own rendering of each.

Dynamic time warping (Sakoe and Chiba, 1978) on mel cepstra and their slopes.
"""

from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

from training.mel import mel_bank

_RATE_HZ = 16_000
_WINDOW, _HOP = 512, 160
_BANDS, _CEPSTRA = 32, 13
_SILENT = 1e-4

Wave = NDArray[np.float32]


class Ear:
    def __init__(self, renderings: Sequence[Wave], sample_rate: int) -> None:
        """`renderings` are the texts as espeak speaks them, `[samples]` each."""
        features = [_features(wave, sample_rate) for wave in renderings]
        self._lengths = np.array([len(feature) for feature in features])
        longest = self._lengths.max()
        self._references = np.stack([np.pad(f, ((0, longest - len(f)), (0, 0))) for f in features])

    def pick(self, wave: Wave, sample_rate: int) -> int:
        """The number of the rendering that `wave` is most like."""
        return int(self._costs(_features(wave, sample_rate)).argmin())

    def _costs(self, heard: Wave) -> NDArray[np.floating]:
        """Mean cost a step on the best path; what is heard may be up to twice as fast as a rendering."""
        count, longest, width = self._references.shape
        flat = self._references.reshape(-1, width)
        squares = (heard**2).sum(1)[:, None] + (flat**2).sum(1) - 2 * heard @ flat.T
        costs = np.sqrt(np.maximum(squares, 0)).reshape(len(heard), count, longest)
        best = np.full((count, longest + 2), np.inf, np.float32)
        best[:, 2:4] = costs[0, :, :2]
        for step in costs[1:]:
            best[:, 2:] = np.minimum(np.minimum(best[:, 2:], best[:, 1:-1]), best[:, :-2]) + step
        ends = best[np.arange(count), self._lengths + 1]
        return np.minimum(ends, best[np.arange(count), self._lengths]) / len(heard)


def _features(wave: Wave, sample_rate: int) -> NDArray[np.float32]:
    """`[frames, 2 * cepstra]`, silence at both ends cut off."""
    sound = soxr.resample(wave, sample_rate, _RATE_HZ)
    sharpened = np.append(sound[:1], sound[1:] - 0.97 * sound[:-1])
    padded = np.pad(sharpened, (_WINDOW // 2, _WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(windows)) ** 2 @ mel_bank(_WINDOW, _BANDS, _RATE_HZ, 100, 7000).T
    loud = np.nonzero(power.sum(1) > power.sum(1).max() * _SILENT)[0]
    levels = np.log(power[loud[0] : loud[-1] + 1] + power.max() * 1e-5)
    angles = np.pi * np.arange(1, _CEPSTRA + 1)[:, None] * (np.arange(_BANDS) + 0.5) / _BANDS
    cepstra = levels @ np.cos(angles).T
    cepstra -= cepstra.mean(0)
    slopes = np.gradient(cepstra, axis=0) if len(cepstra) > 1 else np.zeros_like(cepstra)
    return np.concatenate([cepstra, 2 * slopes], 1).astype(np.float32)
