"""Another sample rate, piece by piece. The result is as long as the whole would be."""

import numpy as np
import soxr

from serve_app.messages import SAMPLE_RATE_HZ

_FULL_SCALE = 32_768
_NONE = np.empty(0, np.float32)


class Resampler:
    def __init__(self, rate_hz: int) -> None:
        self._stream = soxr.ResampleStream(SAMPLE_RATE_HZ, rate_hz, 1, dtype="float32")

    def feed(self, pcm: bytes) -> bytes:
        if not pcm:
            return b""
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        return _pcm(self._stream.resample_chunk(samples))

    def finish(self) -> bytes:
        return _pcm(self._stream.resample_chunk(_NONE, last=True))


def _pcm(samples: np.ndarray) -> bytes:
    # Not soxr's own 16 bit output, which adds dither.
    return np.clip(np.rint(samples), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()
