"""Greek letters that stand alone, as in mathematics, by their names. Greek words stay as they are."""

import re
import unicodedata

from serve_app.speech.text.rule import rule

_LETTER = "[\u0391-\u03a9\u03b1-\u03c9\u03d5]"
_WORD = re.compile("[\u0370-\u03ff\u1f00-\u1fff]{2}")
# Micro and ohm are units: another rule reads them behind a number.
_SYMBOL = re.compile(rf"(?<![^\W\d_]){_LETTER}(?![^\W\d_])(?<![0-9k][\u03a9\u03bc])(?<! [\u03a9\u03bc])")


def _name(match: re.Match[str]) -> str:
    if _WORD.search(match.string):
        return match[0]
    return f" {unicodedata.name(match[0]).removesuffix(' SYMBOL').split()[-1].lower()} "


GREEK_SYMBOLS = (rule(_SYMBOL, _name, _LETTER),)
