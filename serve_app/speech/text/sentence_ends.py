"""Where sentences end. In a normalised text the marks alone tell; a text as typed still has abbreviations."""

import re

_END = re.compile(
    r"[.!?\u2026]++[\"')\]\u201d\u2019\xbb]*+$|[\u3002\uff01\uff1f\uff0e\u0964\u0965\u061f\u06d4\u1362\u17d4]++[\"')\]\u201d\u2019\xbb\u300d\u300f\uff09]*+$"
)
_ABBREVIATION = re.compile(
    r"(?:^|[(\"'])(?:(?!I\.)[A-Za-z]\.|(?:[A-Za-z]\.){2,}|(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Ft|Gen|Sen|Rep|Gov|Capt|Sgt|Lt|Col|Rev|Hon|vs|cf|"
    r"approx|e\.g|i\.e)\.)$"
)
_BEFORE_NUMBER = re.compile(
    r"(?:^|[(\"'])(?:Nos?|Fig|Vol|pp?|Ch|Sec|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)\.$", re.IGNORECASE
)
_NEXT = re.compile(r"\s*[\"'(\u201c\u2018]*(\w)")
_MAX_LOOK_CHARS = 80


def ends_sentence(text: str, start: int, stop: int) -> bool:
    """Whether the word at `start` to `stop` of the text is the last of a sentence."""
    word = text[max(start, stop - _MAX_LOOK_CHARS) : stop]
    if not _END.search(word):
        return False
    if not word.rstrip("\"')]\u201d\u2019\xbb").endswith("."):
        return True
    following = _NEXT.match(text[stop : stop + _MAX_LOOK_CHARS])
    if following and following[1].islower():
        return False
    if following and following[1].isdigit() and _BEFORE_NUMBER.search(word):
        return False
    return not _ABBREVIATION.search(word)
