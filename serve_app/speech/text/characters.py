"""Rules about characters that are safe in any language: one form for each, invisible ones gone, emoji left out.

Letters of every script stay. Full-width punctuation stays too: it belongs to Chinese and Japanese.
"""

import re
import unicodedata
from collections import Counter

from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tracked import Tracked

EMOJI = "emoji"

_COMPATIBLE = (
    "[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f"  # full-width letters and digits, half-width kana
    "\ufb00-\ufb06\U0001d400-\U0001d7ff\u2460-\u24ea"  # ligatures, mathematical alphabets, enclosed
    "\u2103\u2109\u210e\u2115\u211d\u2124\u2126\u212a\u212b\u2150-\u218b\u2474-\u249b\u3371-\u33dd\xbc-\xbe]"
)
# Zero-width joiners shape letters of other scripts (Persian, Hindi); beside Latin letters they are leftovers.
_INVISIBLE_SIGNS = (
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    r"\U000e0000-\U000e0fff"
)
_INVISIBLE = (
    r"(?<![^\W\x00-\u024f])[\u200c\u200d](?!\w)|(?<=[\x00-\u024f])[\u200c\u200d]|^[\u200c\u200d]"
    rf"|[{_INVISIBLE_SIGNS}]"
)
# UTF-8 that was read as Windows-1252: a quote became three characters, an accented letter two.
_MISREAD = re.compile("\xe2\u20ac[\u2122\u02dc\u0153\u009d\u201c\u201d\xa6\xa2]|[\xc2\xc3][\xa0-\xbf]")
_EMOTICON = re.compile(r"(?<!\S)[:;=]['-]?[)(DPp](?![\w(])")
_EMOTICON_EYES = re.compile("[:;=]")
_LINE_BREAKS = "[\r\v\f\x1c-\x1e\x85\u2028]"
_SPACES = r"[^\S\n ]|\u2800|\u3164"
_APOSTROPHES = "\u2018\u2019\u201a\u201b\u2032\u02bc\xb4\u055a\uff07"
_QUOTES = "[\u201c-\u201f\u2033\xab\xbb\u2039\u203a\uff02]"
_HYPHENS = "[\u2010\u2011\ufe63\uff0d]"
_UNSPEAKABLE = {
    "Cc": "control characters",
    "Cs": "broken characters",
    "Co": "private characters",
    "Cn": "unknown characters",
}
_ODD = re.compile(r"[^\w\s\x20-\x7e\xa0-\u024f\u2010-\u2027\u2030-\u205e\u3000-\u303f]")


def plain_characters(tracked: Tracked, dropped: Counter[str]) -> Tracked:
    """The text in composed Unicode, with plain quotes and spaces. `dropped` counts what was left out, by kind."""
    tracked = _without_emoji(applied(tracked, _REREAD), dropped)
    tracked = applied(_without_emoticons(tracked, dropped), _PLAIN)
    if not _ODD.search(tracked.characters):
        return tracked

    def drop(match: re.Match[str]) -> str:
        kind = _UNSPEAKABLE.get(unicodedata.category(match[0]))
        if kind is None:
            return match[0]
        dropped[kind] += 1
        return " "

    return tracked.sub(_ODD, drop)


def _reread(match: re.Match[str]) -> str:
    try:
        return match[0].replace("\x9d", "\u201d").encode("cp1252").decode()
    except UnicodeError:
        return '"' if match[0].endswith("\x9d") else match[0]


_REREAD = (rule(_MISREAD, _reread, "[\xe2\xc2\xc3]"),)
_PLAIN = (
    rule(f"\r\n|{_LINE_BREAKS}", "\n", _LINE_BREAKS),
    rule("\u2029", "\n\n", "\u2029"),
    rule(_INVISIBLE, "", rf"[\u200c\u200d{_INVISIBLE_SIGNS}]"),
    rule(_COMPATIBLE, lambda match: unicodedata.normalize("NFKC", match[0]), _COMPATIBLE),
    rule(
        r"\w[\u0300-\u036f]++|[\u1100-\u11ff]++",
        lambda match: unicodedata.normalize("NFC", match[0]),
        "[\u0300-\u036f\u1100-\u11ff]",
    ),
    rule(r"[\u0300-\u036f]++", "", "[\u0300-\u036f]"),
    rule(_SPACES, " ", _SPACES),
    rule(rf"[{_APOSTROPHES}]|(?<=\w)`(?=\w)", "'", f"[{_APOSTROPHES}`]"),
    rule(_QUOTES, '"', _QUOTES),
    rule("\u2026|\\.{4,}+|(?<=\\w)\\.\\.(?!\\.)", "...", hint="\u2026|\\.\\."),
    rule(_HYPHENS, "-", _HYPHENS),
)

_MAYBE_EMOJI = re.compile(
    "[\xa9\xae\u203c\u2049\u20e3\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_SAID_ELSEWHERE = frozenset("\xa9\xae\u2122\u203c\u2049\u2139") | {chr(code) for code in range(0x2190, 0x2200)}
"""Signs that the emoji list holds too, and that other rules read: copyright, trade marks, double marks, arrows."""


def _without_emoticons(tracked: Tracked, dropped: Counter[str]) -> Tracked:
    if not _EMOTICON_EYES.search(tracked.characters):
        return tracked
    dropped.update([EMOJI] * len(_EMOTICON.findall(tracked.text)))
    return tracked.sub(_EMOTICON, " ")


def _without_emoji(tracked: Tracked, dropped: Counter[str]) -> Tracked:
    """The text without emoji. A keycap becomes its digit; a text of nothing but emoji becomes their names."""
    if not _MAYBE_EMOJI.search(tracked.characters):
        return tracked
    from emoji import demojize, emoji_list  # the list of all emoji takes 0.1 s to load

    found = {item["match_start"]: item["emoji"] for item in emoji_list(tracked.text)}
    if not found:
        return tracked
    nothing_else = not any(char.isalnum() for char in tracked.text)

    def spoken(match: re.Match[str]) -> str:
        sign = found.get(match.start())
        if sign is None or sign[0] in _SAID_ELSEWHERE:
            return match[0]
        if "\u20e3" in sign:
            return f"{sign[0]} "
        if nothing_else:
            return demojize(sign, delimiters=(" ", ", ")).replace("_", " ")
        dropped[EMOJI] += 1
        return " "

    longest_first = sorted(set(found.values()), key=len, reverse=True)
    return tracked.sub(re.compile("|".join(map(re.escape, longest_first))), spoken)
