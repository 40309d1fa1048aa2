"""Reduces a text to the characters that a checkpoint can read."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from serve_app.speech.text.lines import PARAGRAPH
from serve_app.speech.text.prepared import Prepared, merged, notices_of
from serve_app.speech.text.rule import applied, rule

LETTERS_KIND = "letters that the model does not know"
DIGITS_KIND = "digits that the model does not know"
SIGNS_KIND = "signs that the model does not know"

_PAUSES = {
    ",": ";:()[]{}\u2014\u2013\u2012\u2015|\u3001\uff0c\uff1b\uff1a\uff08\uff09\u060c\u061b\u2022\xb7",
    ".": "\u2026\u3002\uff0e\u0964\u06d4",
    "?": "\uff1f\u061f\u037e",
    "!": "\uff01",
    "'": "\u2018\u2019\u02bc\xb4`\u2032",
    " ": "-\u2010\u2011_/\\\u200c\u200d\xad",
    "": '"\u201c\u201d\xab\xbb\u2039\u203a\u201e\xbf\xa1*',
}
_NEAREST = {sign: mark for mark, signs in _PAUSES.items() for sign in signs}
_FALLBACKS = {"?": ".", "!": ".", ".": ",", ",": " ", "'": ""}
"""What a mark becomes in an alphabet without it."""
_LATIN_NAME = re.compile(r"LATIN (SMALL|CAPITAL) (?:LETTER|LIGATURE) ([A-Z]{1,2})(?: WITH .*)?")
_ODD_LETTERS = {"\xdf": "ss", "\u1e9e": "SS", "\xfe": "th", "\xde": "TH", "\xf0": "d", "\xd0": "D", "\u0131": "i",
                "\u014b": "ng", "\u014a": "NG", "\u0259": "e", "\u017f": "s", "\u0138": "k"}  # fmt: skip
_TIDY = (
    (_DOUBLE_SPACES := rule(r" {2,}+", " ", hint="  ")),
    rule(r" ++(?=[.,?!])", "", hint=" [ .,?!]"),
    rule(r",(?=\s*+[.,?!])|(?<=[.?!])(?:\s*+,)++", "", ",", r"[.,?!]\s*+[.,?!]"),
    rule(r"(?<=,)(?=[^\W\d_])", " ", ",", r",[^\W\d_]"),
    _DOUBLE_SPACES,
)
_LINE_STARTS = (rule(r"(?<=\n)(?:[ ,.?!]++|\n)", "", "\n", r"\n[ ,.?!\n]"),)


def readable(text: str | Prepared, alphabet: str) -> Prepared:
    """The text in the alphabet's characters, spaces and paragraph breaks, with a notice for each kind of loss.

    Accents fold to base letters, other signs to the nearest pause. A letter that the alphabet has in one case only
    takes that case. The text is empty if nothing of it can be read. Text should be normalised first: digits are words
    then.
    """
    prepared = Prepared.of(text)
    known = frozenset(alphabet) | {" ", PARAGRAPH}
    dropped: Counter[str] = Counter()

    @lru_cache(maxsize=4096)
    def reading(char: str) -> str | None:
        return _in_alphabet(char, known)

    def replace(match: re.Match[str]) -> str:
        char = match[0]
        found = reading(char)
        if found is None:
            dropped[_kind(char)] += 1
            return "" if unicodedata.category(char)[0] == "M" else " "
        return found

    unknown = f"[^{re.escape(''.join(sorted(known)))}]"
    rules = (
        rule(r" -+ |--+", f"{_nearest(',', known)} ", "-"),
        rule(r"\.{2,}+", ".", hint=r"\.\."),
        rule(unknown, replace, unknown),
    )
    tracked = applied(applied(prepared.tracked, (*rules, *_TIDY)).stripped(" ,.?!\n"), _LINE_STARTS)
    if not any(char.isalnum() for char in tracked.text):
        tracked = tracked.slice(0, 0)
    return Prepared(tracked, merged(prepared.notices, notices_of(dropped)))


def _in_alphabet(char: str, known: frozenset[str]) -> str | None:
    """The alphabet's characters for this one, or None if there are none. "" stands for a sign without a sound."""
    if char in _NEAREST:
        return _nearest(_NEAREST[char], known)
    if char in _FALLBACKS:
        return _nearest(_FALLBACKS[char], known)
    if char.isspace() or unicodedata.category(char) in ("Cf", "Mn"):
        return " " if char.isspace() else ""
    for form in (char, _ODD_LETTERS.get(char, ""), unicodedata.normalize("NFKD", char), _latin_base(char)):
        cased = "".join(_cased(part, known) for part in form if unicodedata.category(part) != "Mn")
        if cased and all(part in known for part in cased):
            return cased
    return None


def _nearest(mark: str, known: frozenset[str]) -> str:
    while mark and mark not in known:
        mark = _FALLBACKS.get(mark, "")
    return mark


def _cased(char: str, known: frozenset[str]) -> str:
    return next((form for form in (char, char.lower(), char.upper()) if form in known), char)


def _latin_base(char: str) -> str:
    """ "\u00f8" as "o", by its name in Unicode: it has no decomposition."""
    match = _LATIN_NAME.fullmatch(unicodedata.name(char, ""))
    return "" if match is None else match[2] if match[1] == "CAPITAL" else match[2].lower()


def _kind(char: str) -> str:
    if char.isalpha():
        return LETTERS_KIND
    return DIGITS_KIND if char.isnumeric() else SIGNS_KIND
