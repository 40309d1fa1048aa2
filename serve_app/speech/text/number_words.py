"""English words for numbers. American usage: no "and" after hundreds."""

from serve_app.speech.text.tables import listed

_SMALL = listed(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
    """
)
_TENS = listed("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = listed(
    """
    thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion
    """
)
_MAX_DIGITS = 3 * (len(_SCALES) + 1)
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(digits: str) -> str:
    """ "1,234" as "one thousand two hundred thirty-four". Numbers beyond decillions are read digit by digit."""
    plain = digits.replace(",", "").lstrip("0") or "0"
    if len(plain) > _MAX_DIGITS:
        return spelled(plain)
    groups = _groups_of_three(plain)
    words = []
    for power, group in zip(range(len(groups) - 1, -1, -1), groups, strict=True):
        if int(group):
            words.append(_below_thousand(int(group)))
            words += [_SCALES[power - 1]] if power else []
    return " ".join(words) or "zero"


def ordinal(digits: str) -> str:
    """ "21" as "twenty-first"."""
    return as_ordinal(cardinal(digits))


def as_ordinal(words: str) -> str:
    """The ordinal of a number in words."""
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    head, last = words[:cut], words[cut:]
    if last in _ORDINALS:
        return head + _ORDINALS[last]
    return head + (last.removesuffix("y") + "ieth" if last.endswith("y") else last + "th")


def spelled(digits: str) -> str:
    """ "105" as "one zero five"."""
    return " ".join(_SMALL[int(digit)] for digit in digits)


def year(digits: str) -> str:
    """Four digits as a year: "nineteen eighty-four", "two thousand five", "nineteen oh five"."""
    century, rest = int(digits[:2]), int(digits[2:])
    if rest == 0:
        return cardinal(digits) if century % 10 == 0 else f"{cardinal(digits[:2])} hundred"
    if rest < 10:
        return cardinal(digits) if century % 10 == 0 else f"{cardinal(digits[:2])} oh {_SMALL[rest]}"
    return f"{cardinal(digits[:2])} {cardinal(digits[2:])}"


def decade(digits: str) -> str:
    """ "1990" as "nineteen nineties", "1800" as "eighteen hundreds", "80" as "eighties"."""
    return plural(year(digits) if len(digits) == 4 else cardinal(digits))


def plural(words: str) -> str:
    """The plural of a number in words."""
    return words.removesuffix("y") + "ies" if words.endswith("y") else words + "s"


def number(text: str) -> str:
    """An unsigned number with separators and decimals: "1,234.50" as "... point five zero"."""
    whole, point, decimals = text.partition(".")
    words = cardinal(whole) if whole else ""
    return f"{words} point {spelled(decimals)}".strip() if point and decimals else words


def _groups_of_three(digits: str) -> list[str]:
    first = len(digits) % 3 or 3
    return [digits[:first], *(digits[at : at + 3] for at in range(first, len(digits), 3))]


def _below_thousand(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    words = [f"{_SMALL[hundreds]} hundred"] if hundreds else []
    return " ".join([*words, _below_hundred(rest)] if rest else words)


def _below_hundred(value: int) -> str:
    if value < 20:
        return _SMALL[value]
    tens, ones = divmod(value, 10)
    return f"{_TENS[tens]}-{_SMALL[ones]}" if ones else _TENS[tens]
