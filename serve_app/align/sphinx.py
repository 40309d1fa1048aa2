"""Aligns by PocketSphinx, whose English model comes with its package: no download, no GPU, 10 ms steps."""

import logging
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from pocketsphinx import Decoder

from serve_app.align.letters import letters_to_phones
from serve_app.align.words import spread, words_of
from serve_app.messages import SAMPLE_RATE_HZ, WordTime

_log = logging.getLogger(__name__)
_RATE_HZ = 16_000
_STEPS_PER_SECOND = 100
_PAD_SECONDS = 0.3
"""Of silence at either end. Without it the last word often cannot end, and nothing is aligned."""
_PEAK, _NOISE = 0.5, 0.001
"""The level that the model expects, and a noise floor: its front end knows no digital silence."""


class SphinxAligner:
    """One decoder. Calls from several threads wait for each other."""

    def __init__(self) -> None:
        self._decoder: Any = Decoder(lm=None, loglevel="FATAL")
        self._in_use = threading.Lock()

    def align(self, pcm: bytes, text: str) -> list[WordTime]:
        """The words of `text` in order, in seconds from the beginning of `pcm` (16 bit mono at 24 kHz).

        Where the sound does not follow the text, words are spread evenly over it, and so marked.
        """
        words = words_of(text)
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768)
        if not words or not len(samples):
            return []
        with self._in_use:
            found = self._found(samples, [word.spoken for word in words])
        seconds = len(samples) / SAMPLE_RATE_HZ
        if len(found) != len(words):
            return spread(words, seconds)
        return [
            WordTime(word.typed, min(max(start, 0.0), seconds), min(max(end, 0.0), seconds))
            for word, (start, end) in zip(words, found, strict=True)
        ]

    def _found(self, samples: NDArray[np.float32], spoken: list[str]) -> list[tuple[float, float]]:
        """Start and end of each word. Fewer than there are words where they were not found."""
        self._learn(spoken)
        self._decoder.set_align_text(" ".join(spoken))
        self._decoder.start_utt()
        self._decoder.process_raw(_prepared(samples), full_utt=True)
        self._decoder.end_utt()
        return [
            (_seconds(segment.start_frame), _seconds(segment.end_frame + 1))
            for segment in self._decoder.seg() or ()
            if segment.word.partition("(")[0] in spoken
        ]

    def _learn(self, words: Iterable[str]) -> None:
        for word in words:
            if self._decoder.lookup_word(word) is None:
                self._decoder.add_word(word, letters_to_phones(word), update=True)


def _prepared(samples: NDArray[np.float32]) -> bytes:
    sound = soxr.resample(samples, SAMPLE_RATE_HZ, _RATE_HZ)
    padded = np.pad(sound * (_PEAK / max(float(np.abs(sound).max()), 1e-6)), int(_PAD_SECONDS * _RATE_HZ))
    noise = np.random.default_rng(0).normal(0, _NOISE, len(padded))
    return (np.clip(padded + noise, -1, 1) * 32767).astype("<i2").tobytes()


def _seconds(step: int) -> float:
    return step / _STEPS_PER_SECOND - _PAD_SECONDS
