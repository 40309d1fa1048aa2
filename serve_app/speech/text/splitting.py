"""Splits a text into pieces of at most so many words: at sentences, then clauses, then words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from serve_app.speech.text.lines import PARAGRAPH
from serve_app.speech.text.prepared import Prepared
from serve_app.speech.text.sentence_ends import ends_sentence
from serve_app.speech.text.tracked import Tracked
from serve_app.speech.text.word_count import IDEOGRAPH, MAX_WORD_LETTERS, SYLLABLE, spoken_words, word_weight

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


@dataclass(frozen=True, slots=True)
class _Span:
    """Characters `start` to `stop` of the spoken text."""

    start: int
    stop: int
    weight: float
    ends_with: Break


_UNIT = re.compile(
    rf"[{IDEOGRAPH}{SYLLABLE}][^\w\s]*+|(?:(?![{IDEOGRAPH}{SYLLABLE}])\S){{1,{4 * MAX_WORD_LETTERS}}}+[\u0300-\u036f]*+"
)
_CLAUSE_END = re.compile(r"[,;:)\u2014\u3001\uff0c\uff1b\uff1a\uff09\u060c\u061b][\"'\u201d\u300d]?$")


def pieces(text: str | Prepared, longest_words: int) -> tuple[Piece, ...]:
    """The text in pieces of at most `longest_words` spoken words each, in order. No character but spaces is lost.

    Raises ValueError for `longest_words` below 1.
    """
    if longest_words < 1:
        raise ValueError(f"longest_words: {longest_words} is below 1. Give at least 1.")
    tracked = Prepared.of(text).tracked
    sentences = _grouped(_units(tracked.text, longest_words), Break.SENTENCE)
    spans = [span for sentence in sentences for span in _fitting(sentence, longest_words)]
    spans = _with_short_ones_joined(spans, longest_words)
    ends = [tracked.place(span.start) for span in spans[1:]] + [tracked.end]
    return tuple(_piece(tracked, span, end) for span, end in zip(spans, ends, strict=False))


def _units(text: str, longest_words: int) -> Iterator[_Span]:
    """The words of the text, or characters where a script has no spaces. Each fits into a piece."""
    for match in _UNIT.finditer(text):
        start, stop = match.span()
        weight = word_weight(match[0])
        if weight <= longest_words:
            yield _Span(start, stop, weight, _break_after(text, start, stop))
            continue
        after = _break_after(text, start, stop)
        step = min(MAX_WORD_LETTERS, longest_words)  # a character weighs one word at most
        for at in range(start, stop, step):
            cut = min(at + step, stop)
            yield _Span(at, cut, word_weight(text[at:cut]), after if cut == stop else Break.WORD)


def _break_after(text: str, start: int, stop: int) -> Break:
    if text[stop : stop + 1] in ("", PARAGRAPH) or text[stop : stop + 2].strip(" ")[:1] == PARAGRAPH:
        return Break.PARAGRAPH
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


def _fitting(units: list[_Span], longest_words: int) -> list[_Span]:
    """A sentence in as few parts as needed, of about equal length, cut at clauses where they fit."""
    whole = _joined(units)
    if whole.weight <= longest_words:
        return [whole]
    clauses: list[_Span] = []
    for clause in _grouped(iter(units), Break.CLAUSE):
        joined = _joined(clause)
        clauses += [joined] if joined.weight <= longest_words else _packed(clause, longest_words)
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
    return Piece(text, spoken_words(text), tracked.place(span.start), end, span.ends_with)
