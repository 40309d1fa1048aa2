"""Codes and identifiers, which a reader spells: "your code is 483920", "#FF8800", "0x1F", "order #A1B-2C3".

They come before every other rule, which would take their first digits for a measure or a date.
"""

import re

from serve_app.speech.text import number_words as words
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tracked import Tracked

_HEXADECIMAL = re.compile(r"(?<![\w.,/])0[xX]([0-9a-fA-F]{1,32})(?!\w)")
_COLOUR = re.compile(r"(?<![\w#&])#(?=[0-9a-fA-F]*[0-9])((?:[0-9a-fA-F]{2}){3,4})(?!\w)")
_IDENTIFIER = re.compile(
    r"(?<![\w-])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![\w-])"
    r"|(?<![\w:-])[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}(?![\w:-])"
)
_NUMBERED = re.compile(r"(?<![\w#&])#(?=[A-Z0-9-]*[0-9])(?=[A-Z]+[0-9-])[A-Z0-9]+(?:-[A-Z0-9]+)*(?![\w-])")
_CODE_WORDS = "code|pin|passcode|password|otp|zip|postcode|id|account|confirmation|ticket|tracking|serial"
_CODE = re.compile(
    rf"(\b(?:{_CODE_WORDS})(?: code| number| no\.?)?(?: is| are|:|,)?:? )([0-9]{{4,12}})(?![\w]|[.,/:-][0-9])",
    re.IGNORECASE,
)


def spelled_identifiers(tracked: Tracked) -> Tracked:
    """Codes with each sign apart, and a pause between their groups."""
    return applied(tracked, _RULES) if tracked.has_digits else tracked


def _spelled(code: str) -> str:
    return " ".join(words.cardinal(sign) if sign.isdigit() else sign.upper() for sign in code)


def _in_groups(code: str) -> str:
    return ", ".join(_spelled(group) for group in re.split("[:-]", code))


def _halves(digits: str) -> str:
    """Six digits as three and three, eight as four and four."""
    middle = len(digits) // 2 if len(digits) in (6, 8) else len(digits)
    return ", ".join(_spelled(part) for part in (digits[:middle], digits[middle:]) if part)


_RULES = (
    rule(_HEXADECIMAL, lambda match: f"zero x {_spelled(match[1])}", hint="0[xX][0-9a-fA-F]"),
    rule(_COLOUR, lambda match: f"hash {_spelled(match[1])}", "#", "#[0-9a-fA-F]{6}"),
    rule(
        _IDENTIFIER,
        lambda match: _in_groups(match[0]),
        hint="[0-9a-fA-F]{2}[:-][0-9a-fA-F]{2}[:-]|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-",
    ),
    rule(_NUMBERED, lambda match: f"number {_in_groups(match[0][1:])}", "#", "#[A-Z]"),
    rule(_CODE, lambda match: match[1] + _halves(match[2]), hint="[0-9]{4}", words=_CODE_WORDS.split("|")),
)
