"""Splits a text into pieces of at most so many words: at sentences, then clauses, then words."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from serve_app.speech.text.lines import PARAGRAPH
from serve_app.speech.text.prepared import Prepared
from serve_app.speech.text.sentence_ends import ends_sentence
from serve_app.speech.text.tracked import Tracked
from serve_app.speech.text.word_count import IDEOGRAPH, MAX_WORD_LETTERS, SYLLABLE, word_weight

FEWEST_WORDS = 4
"""A shorter piece joins its neighbour if both fit: models speak a single word less reliably than a sentence."""


class Break(IntEnum):
    """How strong the pause after a piece is."""

    WORD = 0
    CLAUSE = 1
    SENTENCE = 2
    PARAGRAPH = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text that is spoken in one go."""

    text: str
    num_words: int
    start: int
    """Place of its first character in the typed text."""
    end: int
    """Where the next piece begins in the typed text."""
    ends_with: Break


class _Span(NamedTuple):
    """Characters `start` to `stop` of the spoken text."""

    start: int
    stop: int
    weight: float
    ends_with: Break


_UNIT = (
    rf"[{IDEOGRAPH}{SYLLABLE}][^\w\s]*+|(?:(?![{IDEOGRAPH}{SYLLABLE}])\S){{1,{4 * MAX_WORD_LETTERS}}}+[\u0300-\u036f]*+"
)
_WORDS = re.compile(f"()({_UNIT})")
# Plain words that nothing can end are taken together with the next unit: most sentences are never cut between words.
_RUNS = re.compile(rf"((?:[A-Za-z]{{1,{MAX_WORD_LETTERS}}} (?=\S))*+)({_UNIT})")
_CLAUSE_END = re.compile(r"[,;:)\u2014\u3001\uff0c\uff1b\uff1a\uff09\u060c\u061b][\"'\u201d\u300d]?$")


def pieces(text: str | Prepared, longest_words: int) -> tuple[Piece, ...]:
    """The text in pieces of at most `longest_words` spoken words each, in order. No character but spaces is lost.

    Raises ValueError for `longest_words` below 1.
    """
    if longest_words < 1:
        raise ValueError(f"longest_words: {longest_words} is below 1. Give at least 1.")
    tracked = Prepared.of(text).tracked
    sentences = _grouped(_runs(tracked.text), Break.SENTENCE)
    spans = [span for sentence in sentences for span in _fitting(tracked.text, sentence, longest_words)]
    spans = _with_short_ones_joined(spans, longest_words)
    ends = [tracked.place(span.start) for span in spans[1:]] + [tracked.end]
    return tuple(_piece(tracked, span, end) for span, end in zip(spans, ends, strict=False))


def _runs(text: str) -> Iterator[_Span]:
    """The text in stretches of whole words, each with no break but after its last word."""
    return _spans(_RUNS, text, 0, len(text))


def _words(text: str, within: _Span, longest_words: int) -> Iterator[_Span]:
    """The words of a span, or characters where a script has no spaces. Each fits into a piece."""
    for word in _spans(_WORDS, text, within.start, within.stop):
        if word.weight <= longest_words:
            yield word
            continue
        step = min(MAX_WORD_LETTERS, longest_words)  # a character weighs one word at most
        for at in range(word.start, word.stop, step):
            cut = min(at + step, word.stop)
            yield _Span(at, cut, word_weight(text[at:cut]), word.ends_with if cut == word.stop else Break.WORD)


def _spans(pattern: re.Pattern[str], text: str, start: int, stop: int) -> Iterator[_Span]:
    for match in pattern.finditer(text, start, stop):
        plain, last = match.groups()
        weight = plain.count(" ") + word_weight(last)
        yield _Span(match.start(), match.end(), weight, _break_after(text, match.start(2), match.end()))


def _break_after(text: str, start: int, stop: int) -> Break:
    if text[stop : stop + 1] in ("", PARAGRAPH) or text[stop : stop + 2].strip(" ")[:1] == PARAGRAPH:
        return Break.PARAGRAPH
    if text[stop - 1].isalnum():
        return Break.WORD
    if ends_sentence(text, start, stop):
        return Break.SENTENCE
    return Break.CLAUSE if _CLAUSE_END.search(text[start:stop]) else Break.WORD


def _grouped(spans: Iterator[_Span], at_least: Break) -> list[list[_Span]]:
    """The spans in groups, each of which ends with a break of at least this strength."""
    groups: list[list[_Span]] = [[]]
    for span in spans:
        groups[-1].append(span)
        if span.ends_with >= at_least:
            groups.append([])
    return [group for group in groups if group]


def _fitting(text: str, sentence: list[_Span], longest_words: int) -> list[_Span]:
    """A sentence in as few parts as needed, of about equal length, cut at clauses where they fit."""
    whole = _joined(sentence)
    if whole.weight <= longest_words:
        return [whole]
    clauses: list[_Span] = []
    for runs in _grouped(iter(sentence), Break.CLAUSE):
        clause = _joined(runs)
        fits = clause.weight <= longest_words
        clauses += [clause] if fits else _packed(list(_words(text, clause, longest_words)), longest_words)
    return _packed(clauses, longest_words)


def _packed(spans: list[_Span], longest_words: int) -> list[_Span]:
    """Neighbours joined until a part has its share of the words, never more than fit."""
    total = sum(span.weight for span in spans)
    share = total / -(-total // longest_words)
    parts: list[_Span] = []
    group: list[_Span] = []
    weight = 0.0
    for span in spans:
        if group and (weight + span.weight > longest_words or weight >= share):
            parts.append(_joined(group))
            group, weight = [], 0.0
        group.append(span)
        weight += span.weight
    return [*parts, _joined(group)]


def _with_short_ones_joined(spans: list[_Span], longest_words: int) -> list[_Span]:
    """Spans of less than a few words joined to the one before or after, where both fit into a piece."""
    kept: list[_Span] = []
    for span in spans:
        before = kept[-1] if kept else None
        short = before is not None and min(before.weight, span.weight) < FEWEST_WORDS
        if before is not None and short and before.weight + span.weight <= longest_words:
            kept[-1] = _joined([before, span])
        else:
            kept.append(span)
    return kept


def _joined(spans: list[_Span]) -> _Span:
    return _Span(spans[0].start, spans[-1].stop, sum(span.weight for span in spans), spans[-1].ends_with)


def _piece(tracked: Tracked, span: _Span, end: int) -> Piece:
    text = tracked.text[span.start : span.stop].replace(PARAGRAPH, " ")
    return Piece(text, math.ceil(span.weight), tracked.place(span.start), end, span.ends_with)
