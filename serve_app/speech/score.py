"""How good an utterance is: measured on its sound, its length and, where there is an ear, its words."""

import difflib
import re
from dataclasses import dataclass
from math import log, log2
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from serve_app.audio.voice_levels import Levels, pitch_hz
from serve_app.messages import SAMPLE_RATE_HZ
from serve_app.speech.text.duration import usual_seconds

_MAX_LOUDNESS_DB = 6.0
_MAX_SEMITONES = 3.0
_MAX_SILENCE_SECONDS = 1.0
_MAX_CLIPPED_SHARE = 0.001
_MAX_PACE = 2.0
"""Times as long, or as short, as a usual reading."""
_LARGEST_FAULT = 0.5
_FULL_SCALE = 32_700
_MIN_SAMPLES = SAMPLE_RATE_HZ // 10
_WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")


class Ear(Protocol):
    """Hears words."""

    async def hears(self, pcm: bytes) -> str:
        """The words in signed 16 bit mono PCM at 24 kHz. Raises errors of this project."""
        ...


@dataclass(frozen=True, slots=True)
class Likeness:
    """What is compared with an utterance: loudness and pitch of the voice that it should have."""

    loudness_dbfs: float
    pitch_hz: float | None

    @classmethod
    def of(cls, samples: NDArray[np.int16]) -> Self | None:
        """None for a sound that is too short to be a voice's."""
        if len(samples) < _MIN_SAMPLES:
            return None
        return cls(Levels(samples).loudness_dbfs, pitch_hz(samples))


@dataclass(frozen=True, slots=True)
class Score:
    """Of one utterance. None: not measured."""

    seconds: float
    ends_by_itself: bool
    pace: float
    """Its length beside a usual reading of as many words."""
    silence_seconds: float
    """The longest silence, also at its beginning or end."""
    clipped: float
    """Share of its samples at full scale."""
    loudness_db: float | None
    """Above the voice's."""
    pitch_semitones: float | None
    """Above the voice's."""
    words_heard: float | None
    """Share of the words that the ear heard, in order."""

    @property
    def value(self) -> float:
        """1 for an utterance without a fault, 0 for the worst. A misheard word costs its share of the text."""
        if not self.seconds:
            return 0.0
        misheard = 0.0 if self.words_heard is None else 1 - self.words_heard
        faults = (
            0.0 if self.ends_by_itself else _LARGEST_FAULT,
            _beyond(abs(log(max(self.pace, 0.01))), log(_MAX_PACE)),
            _beyond(self.silence_seconds, _MAX_SILENCE_SECONDS),
            _beyond(self.clipped, _MAX_CLIPPED_SHARE),
            _beyond(abs(self.loudness_db or 0.0), _MAX_LOUDNESS_DB),
            _beyond(abs(self.pitch_semitones or 0.0), _MAX_SEMITONES),
        )
        return round(max(0.0, 1 - misheard - sum(faults)), 3)


def scored(
    samples: NDArray[np.int16], num_words: int, ends_by_itself: bool, voice: Likeness | None, words: float | None
) -> Score:
    """The score of an utterance of `num_words` words. `words`: the share of them that was heard."""
    own = Likeness.of(samples)
    pitch = own.pitch_hz if own else None
    wanted = voice.pitch_hz if voice else None
    seconds = len(samples) / SAMPLE_RATE_HZ
    return Score(
        seconds=round(seconds, 2),
        ends_by_itself=ends_by_itself,
        pace=round(seconds / usual_seconds(num_words), 2),
        silence_seconds=round(Levels(samples).longest_silence_seconds, 2) if own else round(seconds, 2),
        clipped=round(float(np.mean(np.abs(samples.astype(np.int32)) >= _FULL_SCALE)), 4) if own else 0.0,
        loudness_db=round(own.loudness_dbfs - voice.loudness_dbfs, 1) if own and voice else None,
        pitch_semitones=round(12 * log2(pitch / wanted), 2) if pitch and wanted else None,
        words_heard=words,
    )


def words_heard(text: str, heard: str) -> float:
    """Share of the words of `text` that come in `heard`, in order."""
    wanted, found = (_WORD.findall(words.lower()) for words in (text, heard))
    if not wanted:
        return 1.0
    blocks = difflib.SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks()
    return round(sum(block.size for block in blocks) / len(wanted), 2)


def _beyond(amount: float, allowed: float) -> float:
    """What an amount costs: nothing up to what is allowed, and from there on a quarter and more."""
    return 0.0 if amount <= allowed else min(_LARGEST_FAULT, 0.25 * amount / allowed)
