"""When each character is said, by when its word is heard. Within a word, characters share its time evenly."""

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from serve_app.messages import WordTime

Edges = NDArray[np.float64]
"""Where each character of a text begins and the last one ends, in seconds: one more than there are characters."""


def spoken_edges(text: str, words: Sequence[WordTime], start: float, end: float) -> Edges:
    """Of a text that is heard from `start` to `end`. Without words its characters share all of the time."""
    places, times, found = [0], [start], 0
    for word in words:
        begins = text.find(word.text, found)
        if begins >= 0:
            found = begins + len(word.text)
            places += [begins, found]
            times += [word.start_seconds, word.end_seconds]
    if found < len(text) or not text:
        places.append(len(text))
        times.append(end)
    ascending = np.maximum.accumulate(np.clip(times, start, end))
    return np.interp(np.arange(len(text) + 1), places, ascending)


def typed_edges(typed: str, spoken: str, edges: Edges) -> Edges:
    """Of what was typed, from those of what was spoken for it. Characters that both have are heard at one time."""
    blocks = SequenceMatcher(None, _letters(typed), _letters(spoken), autojunk=False).get_matching_blocks()
    ends = [(block.a + shift, block.b + shift) for block in blocks for shift in (0, block.size)]
    here, there = zip((0, 0), *ends, strict=True)
    places = np.interp(np.arange(len(typed) + 1), here, there)
    return np.interp(places, np.arange(len(edges)), edges)


def _letters(text: str) -> list[str]:
    """In lower case, as many as the text has characters."""
    return [letter.lower() for letter in text]
