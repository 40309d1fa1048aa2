"""Ears for tests of the demo voice: is what was spoken what was asked for?"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from training.ear import Ear
from training.espeak import Espeak

SAMPLE_RATE_HZ = 24_000
SAME_PERIOD = 0.8
"""Of the strongest correlation; a sound that repeats after n samples does so after 2 n as well."""


@cache
def espeak() -> Espeak:
    """The one that tests share."""
    return Espeak()


def wave(pcm: bytes) -> NDArray[np.float32]:
    """Of signed 16 bit little-endian mono."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


class Listener:
    """Knows `texts` as espeak-ng says them in the voice."""

    def __init__(self, texts: Sequence[str], voice: int) -> None:
        self._texts = texts
        renderings = [espeak().speak(text, voice)[0] for text in texts]
        self.seconds = [len(rendering) / espeak().sample_rate for rendering in renderings]
        self._ear = Ear(renderings, espeak().sample_rate)

    def hears(self, pcm: bytes) -> str:
        """The text that this is most like."""
        return self._texts[self._ear.pick(wave(pcm), SAMPLE_RATE_HZ)]


def pitch_hz(pcm: bytes) -> float:
    """Between 80 and 260 Hz, by the shortest period after which the sound is nearly the same."""
    sound = wave(pcm)
    spectrum = np.abs(np.fft.rfft(sound, 2 * len(sound))) ** 2
    correlation = np.fft.irfft(spectrum)
    shortest, longest = SAMPLE_RATE_HZ // 260, SAMPLE_RATE_HZ // 80
    likely = correlation[shortest:longest]
    first = int(np.argmax(likely > SAME_PERIOD * likely.max()))
    return SAMPLE_RATE_HZ / (shortest + first + int(likely[first : first + shortest // 2].argmax()))
