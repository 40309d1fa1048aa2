"""Turns a typed text into what a reader would say."""

import re
from collections import Counter
from itertools import groupby

from serve_app.speech.text.characters import plain_characters
from serve_app.speech.text.english.greek import GREEK_SYMBOLS
from serve_app.speech.text.english.rules import as_english
from serve_app.speech.text.lines import PARAGRAPH, paragraphs
from serve_app.speech.text.markup import without_markup
from serve_app.speech.text.prepared import Prepared, notices_of
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tracked import Tracked, joined

ENGLISH = "en"

_DOUBLE_SPACES = rule(r" {2,}+", " ", hint="  ")
_TIDY = (
    _DOUBLE_SPACES,
    rule(r" ++(?=[.,?!;:)\n])|(?<=\() ++|(?<=\n) ++", "", hint=r" [ .,?!;:)\n]|[(\n] "),
    rule(r"\(\)", "", r"\("),
    rule(r"([!?])\1++", lambda match: match[1], "[!?]"),
    rule(r"(?:[!?]{3,}+)", "?!", "[!?]"),
    rule(r",(?= ?[.,;:!?])|(?<=[.!?;:]),(?! ?[\w\"'(])", "", ",", r"[,.!?;:] ?[.,;:!?]"),
    rule(r"(?<=[;:]) ?[,;:]++", "", "[;:]"),
    rule(r"(?<=[!?])\.++", "", "[!?]"),
    rule(r"(?<=\() ?[,;:]++ ?", "", r"\("),
    rule(r"(?<![.])\.\.(?![.])|\.{4,}+", ".", hint=r"\.\."),
    _DOUBLE_SPACES,
)
_LINE_STARTS = (rule(r"(?<=\n)[,;:.) ]++|[ ]++(?=\n)", "", "\n"),)
_LAST_LINE = (rule(r"[,;:]$", ".", "[,;:]"), rule(r"\n{2,}+", "\n", "\n"))
# Ohm and micro are units, whatever the language.
_LETTER = re.compile(r"[^\W\d_\xb2\xb3\xb9\u2070-\u2099\u03a9\u03bc]")
_LATIN = re.compile(r"[A-Za-z\xaa\xba\xc0-\u024f\u1e00-\u1eff]")
_SPEAKABLE = re.compile(r"[^\W_]")


def normalize(text: str, language: str = ENGLISH) -> Prepared:
    """The text as it is to be spoken, with a notice for each kind of thing that cannot be.

    language: "en" reads numbers, signs and abbreviations as English. Any other keeps them as they are, as do paragraphs
    written mostly in another script than Latin. The text is empty if nothing of it can be spoken.
    """
    dropped: Counter[str] = Counter()
    tracked = paragraphs(without_markup(plain_characters(Tracked.typed(text), dropped), dropped))
    if language == ENGLISH:
        parts = _by_language(applied(tracked, GREEK_SYMBOLS))
        tracked = joined(as_english(part, dropped) if english else part for english, part in parts)
    tracked = _tidy(tracked)
    if not _SPEAKABLE.search(tracked.text):
        tracked = tracked.slice(0, 0)
    return Prepared(tracked, notices_of(dropped))


def _tidy(tracked: Tracked) -> Tracked:
    """Without the doubled spaces and marks that rules left behind."""
    tracked = applied(applied(tracked, _TIDY).stripped(",;:.) ", " "), _LINE_STARTS)
    return applied(tracked, _LAST_LINE).stripped()


def _by_language(tracked: Tracked) -> list[tuple[bool, Tracked]]:
    """Runs of paragraphs that are read as English, or not. Those without letters go with the whole text."""
    letters = "".join(_LETTER.findall(tracked.characters))
    if len(_LATIN.findall(letters)) == len(letters):
        return [(True, tracked)]
    otherwise = _is_latin(tracked.text, True)
    lines = []
    start = 0
    while start < len(tracked.text):
        stop = tracked.text.find(PARAGRAPH, start) + 1 or len(tracked.text)
        lines.append((_is_latin(tracked.text[start:stop], otherwise), start, stop))
        start = stop
    runs = []
    for english, group in groupby(lines, key=lambda line: line[0]):
        bounds = list(group)
        runs.append((english, tracked.slice(bounds[0][1], bounds[-1][2])))
    return runs


def _is_latin(text: str, without_letters: bool) -> bool:
    letters, latin = len(_LETTER.findall(text)), len(_LATIN.findall(text))
    return 2 * latin >= letters if letters else without_letters
