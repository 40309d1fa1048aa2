"""A small watermark: quiet noise that follows from the key, found again by correlation."""

import hashlib

import numpy as np

from serve_app.audio.watermark.mark import Finding
from serve_app.settings import WatermarkSettings

_PERIOD = 4 * 1920
_LEVEL = 300.0
_THRESHOLD = 150.0


class NoiseMark:
    name = "noise"
    block_seconds = 0.32

    def __init__(self, key: str) -> None:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
        self._noise = np.random.default_rng(seed).choice([-1.0, 1.0], _PERIOD)

    def mark(self, pcm: bytes) -> bytes:
        samples = np.frombuffer(pcm, "<i2").astype(np.float64)
        samples += _LEVEL * np.resize(self._noise, len(samples))
        return np.rint(np.clip(samples, -32768, 32767)).astype("<i2").tobytes()

    def find(self, pcm: bytes) -> Finding:
        samples = np.frombuffer(pcm, "<i2").astype(np.float64)
        samples = samples[: len(samples) // _PERIOD * _PERIOD]
        strength = float(np.mean(samples * np.resize(self._noise, len(samples))))
        return Finding(strength > _THRESHOLD, float(np.clip(strength / _LEVEL, 0, 1)))


def open_mark(settings: WatermarkSettings) -> NoiseMark:
    assert settings.key is not None
    return NoiseMark(settings.key.get_secret_value())
