"""Dates and decades."""

import re

from serve_app.speech.text import number_words as words
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tables import listed, table
from serve_app.speech.text.tracked import Tracked

_MONTHS = listed("January February March April May June July August September October November December")
_SHORT = {name[:3]: name for name in _MONTHS} | {"Sept": "September"}
_MONTH_WORDS = frozenset(name.lower() for name in (*_MONTHS, *_SHORT))
_MONTH = "((?:" + "|".join(_MONTHS) + r")\b|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\b\.?)"
_DAY = r"(0?[1-9]|[12][0-9]|3[01])"
_YEAR = r"((?:1[0-9]|20)[0-9]{2})"
_LETTER_BEFORE = r"(?<![\w.,/$-])"
_NUMBER_AFTER = r"(?![0-9]|[.,/-][0-9])"

_ISO = re.compile(
    rf"{_LETTER_BEFORE}{_YEAR}([-/.])(0?[1-9]|1[0-2])\2{_DAY}"
    r"(?:(?:T| at |,? )(?=[0-9]{1,2}:[0-9]{2})|(?![\w-]|[./][0-9]))"
)
_SLASHED = re.compile(
    rf"{_LETTER_BEFORE}(0?[1-9]|[12][0-9]|3[01])([/.-])(0?[1-9]|[12][0-9]|3[01])\2((?:1[0-9]|20)?[0-9]{{2}}){_NUMBER_AFTER}"
)
_MONTH_DAYS = re.compile(rf"\b{_MONTH} {_DAY} ?[-\u2013\u2014] ?{_DAY}(?:,? {_YEAR})?{_NUMBER_AFTER}(?!:)")
_MONTH_DAY = re.compile(rf"\b{_MONTH} {_DAY}(?:st|nd|rd|th)?(?:,? {_YEAR})?{_NUMBER_AFTER}(?![\w:%])")
_DAY_MONTH = re.compile(
    rf"{_LETTER_BEFORE}(?:the )?{_DAY}(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? {_YEAR})?{_NUMBER_AFTER}"
)
_MONTH_YEAR = re.compile(rf"\b{_MONTH},? {_YEAR}{_NUMBER_AFTER}(?!\w)")
_SHORT_ALONE = re.compile(r"\b(Jan|Feb|Mar|Apr|Aug|Sept|Sep|Oct|Nov|Dec)\.(?= [a-z0-9])")
_WEEKDAYS = table(
    """
    Mon: Monday | Tue: Tuesday | Tues: Tuesday | Wed: Wednesday | Thu: Thursday | Thur: Thursday | Thurs: Thursday
    Fri: Friday | Sat: Saturday | Sun: Sunday
    """
)
_WEEKDAY = re.compile(r"\b(Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)(?:\.,?|,)(?= ?(?:[0-9]|[A-Z][a-z]{2}))")
_WEEKDAY_RANGE = re.compile(rf"\b({'|'.join(_WEEKDAYS)}) ?[-\u2013] ?({'|'.join(_WEEKDAYS)})\b")
_DECADE = re.compile(r"(?<![\w.,/])(?<![^s\s]-)'?((?:1[0-9]|20)?[0-9]0)'?s\b")
_SHORT_YEAR = re.compile(r"(?<![\w'])'([0-9]{2})(?![\w'%])")
_ERA = re.compile(r"(?<![\w.,$-])([0-9]{1,4}) ?(BCE?|CE|AD)\b")


def spoken_dates(tracked: Tracked) -> Tracked:
    """Dates as Americans say them: "May twenty-fifth, twenty twenty-five". 4/5/2025 is April, 25/5/2025 is May."""
    tracked = applied(tracked, _WEEKDAY_RANGES)
    return applied(tracked, _RULES) if tracked.has_digits else tracked


def _date(month: str, day: str, year: str | None) -> str:
    said = f"{_month(month)} {words.ordinal(day)}"
    return f"{said}, {words.year(year)}" if year else said


def _iso(match: re.Match[str]) -> str:
    said = _date(_MONTHS[int(match[3]) - 1], match[4], match[1])
    return said + (" at " if match.end() > match.end(4) else "")


def _slashed(match: re.Match[str]) -> str:
    first, second, year = int(match[1]), int(match[3]), match[4]
    if (match[2] != "/" and len(year) == 2) or (first > 12 and second > 12):
        return match[0]
    month, day = (second, match[1]) if first > 12 or (match[2] == "." and second <= 12) else (first, match[3])
    full = year if len(year) == 4 else ("20" if int(year) < 50 else "19") + year
    return _date(_MONTHS[month - 1], day, full)


def _days(match: re.Match[str]) -> str:
    said = f"{_month(match[1])} {words.ordinal(match[2])} to {words.ordinal(match[3])}"
    return f"{said}, {words.year(match[4])}" if match[4] else said


def _day_month(match: re.Match[str]) -> str:
    said = f"{words.ordinal(match[1])} of {_month(match[2])}"
    said = f"the {said}"
    return f"{said}, {words.year(match[3])}" if match[3] else said


def _year_of_era(digits: str) -> str:
    return words.year(digits) if len(digits) == 4 else words.cardinal(digits)


def _short_year(digits: str) -> str:
    return f"oh {words.cardinal(digits)}" if digits[0] == "0" else words.cardinal(digits)


def _month(name: str) -> str:
    return _SHORT.get(name.rstrip("."), name)


_WEEKDAY_RANGES = (
    rule(_WEEKDAY_RANGE, lambda match: f"{_WEEKDAYS[match[1]]} to {_WEEKDAYS[match[2]]}", words=_WEEKDAYS),
)
_RULES = (
    rule(_WEEKDAY, lambda match: _WEEKDAYS[match[1]] + ("," if match[0].endswith(",") else ""), words=_WEEKDAYS),
    rule(_ISO, _iso, hint="[0-9]{4}[-/.][0-9]"),
    rule(_SLASHED, _slashed, hint="[0-9][/.-][0-9]"),
    rule(_MONTH_DAYS, _days, hint="[0-9] ?[-\u2013\u2014] ?[0-9]", words=_MONTH_WORDS),
    rule(_MONTH_DAY, lambda match: _date(match[1], match[2], match[3]), "[0-9]", words=_MONTH_WORDS),
    rule(_DAY_MONTH, _day_month, "[0-9]", words=_MONTH_WORDS),
    rule(_MONTH_YEAR, lambda match: f"{_month(match[1])} {words.year(match[2])}", "[0-9]", words=_MONTH_WORDS),
    rule(_SHORT_ALONE, lambda match: _month(match[1]), r"\.", words=_SHORT),
    rule(_ERA, lambda match: f"{_year_of_era(match[1])} {match[2]}", hint="[0-9] ?[BCA]"),
    rule(_DECADE, lambda match: words.decade(match[1]), hint="0'?s"),
    rule(_SHORT_YEAR, lambda match: _short_year(match[1]), hint="'[0-9]"),
)
