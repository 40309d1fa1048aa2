"""How many words a text is when it is spoken, for any script."""

import math
import re

MAX_WORD_LETTERS = 12
"""Letters that count as one word. A longer word counts as several: a German compound, or a run without spaces."""

IDEOGRAPH = "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
SYLLABLE = "\u3041-\u30ff\u31f0-\u31ff\uac00-\ud7a3\u1100-\u11ff\uff66-\uff9d"
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_IDEOGRAPHS = re.compile(f"[{IDEOGRAPH}]")
_SYLLABLES = re.compile(f"[{SYLLABLE}]")
_UNSPACED_LETTERS = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(rf"[^\W\d_{IDEOGRAPH}{SYLLABLE}{_UNSPACED}](?:['\u2019]?[^\W\d_{IDEOGRAPH}{SYLLABLE}{_UNSPACED}])*+")
_ASCII_WORD = re.compile("[A-Za-z](?:'?[A-Za-z])*+")
_DIGIT = re.compile(r"\d")
_MARKS = ".,?!;:'\"()"
"""Beside a word they take no time of their own."""
_SIGN = re.compile(r"[$\u20ac\xa3\xa5%+=<>@#&\xb0/\\^~|*_]")


def spoken_words(text: str) -> int:
    """About how many English words take as long to say as this text.

    A Chinese character counts as a word, two kana or Hangul syllables as one, four letters of scripts such as Thai as
    one. In a text that was not normalised each digit and each sign counts as one.
    """
    return math.ceil(word_weight(text))


def word_weight(text: str) -> float:
    """As `spoken_words`, not rounded up, so that the parts of a text add up to the whole."""
    if text.strip(_MARKS).isalpha() and text.isascii():
        return _weight(len(text.strip(_MARKS)))
    words = sum(_weight(len(word)) for word in (_ASCII_WORD if text.isascii() else _WORD).findall(text))
    words += len(_DIGIT.findall(text)) + len(_SIGN.findall(text))
    if text.isascii():
        return words
    others = len(_SYLLABLES.findall(text)) / 2 + len(_UNSPACED_LETTERS.findall(text)) / 4
    return words + len(_IDEOGRAPHS.findall(text)) + others


def _weight(letters: int) -> int:
    return -(-letters // MAX_WORD_LETTERS)
