"""A guess at how a word sounds that no dictionary has. Enough to find where it begins and ends."""

import re

_PHONES = {
    "sch": "SH", "tch": "CH", "igh": "AY", "ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "ck": "K", "ng": "NG",
    "qu": "K W", "wh": "W", "ee": "IY", "ea": "IY", "oo": "UW", "ou": "AW", "ow": "OW", "ai": "EY", "ay": "EY",
    "oi": "OY", "oy": "OY", "au": "AO", "aw": "AO", "er": "ER", "ir": "ER", "ur": "ER", "ar": "AA R", "or": "AO R",
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH",
    "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T",
    "u": "AH", "v": "V", "w": "W", "x": "K S", "y": "IY", "z": "Z",
}  # fmt: skip
_UNIT = re.compile("|".join(_PHONES))
_DOUBLE = re.compile(r"([b-df-hj-np-tv-z])\1")
_SILENT_E = re.compile(r"(?<=[a-z]{2}[b-df-hj-np-tv-z])e$")


def letters_to_phones(word: str) -> str:
    """ARPAbet phones of a word in lower-case letters, with spaces between. A word without letters is a pause."""
    letters = _SILENT_E.sub("", _DOUBLE.sub(r"\1", word))
    return " ".join(_PHONES[unit] for unit in _UNIT.findall(letters)) or "SIL"
