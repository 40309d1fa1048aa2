"""Made-up recordings: a buzz in syllables, at the pitch of a voice."""

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 24_000


def buzz(seconds: float, pitch_hz: float = 120.0, seed: int = 0, level: float = 0.2) -> NDArray[np.float32]:
    """Harmonics of a pitch, four syllables a second."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    draw = np.random.default_rng(seed)
    harmonics = sum(
        np.sin(2 * np.pi * pitch_hz * number * time + draw.uniform(0, 6)) / number for number in range(1, 20)
    )
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)
    return (level * syllables * harmonics / 2).astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(int(seconds * RATE_HZ), np.float32)


def wav(*pieces: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(pieces), RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def speech_like(seconds: float, seed: int = 0, pitch_hz: float = 120.0) -> bytes:
    """A WAV file."""
    return wav(buzz(seconds, pitch_hz, seed))
