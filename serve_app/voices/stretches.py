"""The best stretch of a long clip: whole sentences, from pause to pause.

A clip and its transcript must be cut at the same place. A pause counts as the end of a sentence if as much of the
speech lies before it as of the text, to within a second; where none does, there is no stretch.
"""

import re
from dataclasses import dataclass

import numpy as np

from serve_app.audio.voice_levels import STEP_SAMPLES, Levels
from serve_app.messages import SAMPLE_RATE_HZ

_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)]*\s+")
_PAUSE_SECONDS = 0.2
_STEPS_A_SECOND = SAMPLE_RATE_HZ // STEP_SAMPLES
_TOLERANCE_STEPS = _STEPS_A_SECOND
_NOISE_PERCENTILE = 3
"""Of the levels: half a second of pauses in 20 s shows the noise."""
_DB_OF_A_SECOND = 0.5
"""What a second more of the voice is worth, in decibels above the noise."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps start..end-1 of 20 ms, and the sentences in them."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Cut:
    """A place between two sentences: characters before it, and the steps where speech ends and begins again."""

    chars: int
    ends: int
    begins: int


def best_stretch(text: str, levels: Levels, min_seconds: float, max_seconds: float) -> Stretch | None:
    """The stretch with the cleanest and longest speech of at most `max_seconds`."""
    cuts = _cuts(text, levels)
    found = [
        Stretch(text[first.chars : last.chars].strip(), first.begins, last.ends)
        for number, first in enumerate(cuts)
        for last in cuts[number + 1 :]
        if min_seconds <= (last.ends - first.begins) / _STEPS_A_SECOND <= max_seconds
    ]
    return max(found, key=lambda stretch: _worth(stretch, levels), default=None)


def _cuts(text: str, levels: Levels) -> list[_Cut]:
    """Beginning and end of the speech, and the ends of sentences that a pause matches."""
    first, last = levels.speech_steps()
    pauses = levels.pauses(_PAUSE_SECONDS)
    before = np.concatenate([[0], np.cumsum(levels.is_speech)])
    cuts = [_Cut(0, first, first)]
    for match in _SENTENCE_END.finditer(text):
        expected = before[-1] * match.end() / len(text)
        near = [pause for pause in pauses if abs(before[pause.start] - expected) <= _TOLERANCE_STEPS]
        pause = min(near, key=lambda pause: abs(before[pause.start] - expected), default=None)
        if pause is not None and pause.start > cuts[-1].ends:
            cuts.append(_Cut(match.end(), pause.start, pause.end))
    return [*cuts, _Cut(len(text), last, last)]


def _worth(stretch: Stretch, levels: Levels) -> float:
    part = levels.dbfs[stretch.start : stretch.end]
    speech = levels.is_speech[stretch.start : stretch.end]
    cleanness = float(np.mean(part[speech]) - np.percentile(part, _NOISE_PERCENTILE))
    return cleanness + _DB_OF_A_SECOND * (stretch.end - stretch.start) / _STEPS_A_SECOND
