"""The words of a text, as typed and as a dictionary has them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.messages import WordTime

_WORD = re.compile(r"\S+")
_NOT_SPOKEN = re.compile(r"[^a-z']+")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'"})


@dataclass(frozen=True, slots=True)
class Word:
    typed: str
    """With its punctuation."""
    spoken: str
    """Lower-case Latin letters and apostrophes."""


def words_of(text: str) -> list[Word]:
    """What stands between spaces and has a letter. Other scripts are not aligned."""
    words: list[Word] = []
    for match in _WORD.finditer(text):
        spoken = _NOT_SPOKEN.sub("", match[0].lower().translate(_APOSTROPHES)).strip("'")
        if spoken:
            words.append(Word(match[0], spoken))
    return words


def spread(words: Sequence[Word], seconds: float) -> list[WordTime]:
    """Words over the time in proportion to their letters, where nothing better is known."""
    total = sum(len(word.spoken) for word in words)
    times: list[WordTime] = []
    start = 0.0
    for word in words:
        end = start + seconds * len(word.spoken) / total
        times.append(WordTime(word.typed, start, end, is_estimated=True))
        start = end
    return times
