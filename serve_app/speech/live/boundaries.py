"""Where typed text that is still growing may be cut, so that each side is read as it would be within the whole.

A boundary is found once the first character behind it is known, and never changes with what comes later.
"""

import re
from dataclasses import dataclass

from serve_app.speech.text.sentence_ends import ends_sentence
from serve_app.speech.text.splitting import Break
from serve_app.speech.text.word_count import word_weight

_MARKS = "\u3002\uff01\uff1f\u3001\uff0c\uff1b\uff1a"
"""Marks of scripts that put no space behind them."""
_CLOSERS = "\"')\\]\u201d\u2019\u300d\u300f\uff09"
_OPENERS = "\"'(\\[\u201c\u2018*_"
_WORD = re.compile(
    rf"\s*+(?P<word>[^\s{_MARKS}]*[{_MARKS}]++[{_CLOSERS}]*+|[^\s{_MARKS}]++)(?P<gap>\s*+)"
    rf"(?=[{_OPENERS}]*+(?P<following>[^{_OPENERS}]))"
)
_CLAUSE_END = re.compile(r"[,;:)\u2014\u3001\uff0c\uff1b\uff1a][\"'\u201d\u300d]?$")
_ITEM = re.compile(r"\s*(?:[-*+\u2022]|\d{1,3}[.)]|#{1,6})\s")
_ITEM_NUMBER = re.compile(r"\s*\d{1,3}[.)]$")
_UNIT_AFTER_NUMBER = re.compile(r"\d\S*\s+[^\W\d]+\.$")
_OPEN_MARKUP = re.compile(
    r"(?<![\w*_~`])(\*{1,3}|_{1,3}|~~|`{1,3})(?=[^\s*_~`])(?:(?!\1).)*\Z|\[[^\]]*\Z|<[A-Za-z/!][^<>]*\Z", re.DOTALL
)
_LOOKS_ENDED = re.compile(rf"(?:(?<!\d)\.|[!?\u2026\u3002\uff01\uff1f])[{_CLOSERS}]*\s*\Z")
_LAST_WORD = re.compile(r"\S+(?=\s*\Z)")
_LONGEST_LOOK = 80


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place between two words. A cut there puts the space between them to the left side."""

    next: int
    """Where the word behind it begins."""
    weight: float
    """Spoken words of the word before it."""
    strength: Break | None
    """None where a cut would change how the text is read: within a number, after an abbreviation."""


def boundary_after(text: str, start: int) -> Boundary | None:
    """The end of the word at `start`. None while it is not known, since the word or what it belongs to may go on."""
    match = _WORD.match(text, start)
    if match is None:
        return None
    strength = _strength(text, *match.span("word"), match["gap"], match["following"])
    return Boundary(match.end("gap"), word_weight(match["word"]), strength)


def has_open_markup(text: str) -> bool:
    """Whether Markdown or HTML was begun that only later text can end."""
    return _OPEN_MARKUP.search(text) is not None


def looks_ended(text: str) -> bool:
    """Whether a text after which nothing comes reads like the end of a sentence."""
    word = _LAST_WORD.search(text)
    return word is not None and _LOOKS_ENDED.search(text) is not None and ends_sentence(text, *word.span())


def break_at_end(text: str) -> Break:
    """How strong the pause is after a text whose caller said that it ends here."""
    return Break.SENTENCE if looks_ended(text) else Break.CLAUSE


def _strength(text: str, start: int, stop: int, gap: str, following: str) -> Break | None:
    word = text[max(start, stop - _LONGEST_LOOK) : stop]
    line = text[text.rfind("\n", 0, start) + 1 : stop]
    if gap.count("\n") > 1:
        return Break.PARAGRAPH
    if "\n" in gap:
        return Break.SENTENCE if _ITEM.match(line) else Break.CLAUSE
    if _ITEM_NUMBER.fullmatch(line) or (following.isdigit() and _UNIT_AFTER_NUMBER.search(line)):
        return None
    if ends_sentence(text, start, stop):
        return Break.SENTENCE
    if _CLAUSE_END.search(word):
        return None if following.isdigit() else Break.CLAUSE
    return Break.WORD if word.isalpha() and following.isalpha() else None
