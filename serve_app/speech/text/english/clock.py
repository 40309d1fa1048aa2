"""Times of day and durations written with colons."""

import re

from serve_app.speech.text import number_words as words
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tracked import Tracked

_HALF = r"(?: ?([aApP])(?:\.[mM]\.|[mM]\b))"
_CLOCK = re.compile(
    rf"(?<![\w:.,$/-])([01]?[0-9]|2[0-4])[:.]([0-5][0-9])(?::([0-5][0-9])(?:\.[0-9]+)?)?{_HALF}|"
    r"(?<![\w:.,$/-])([01]?[0-9]|2[0-4]):([0-5][0-9])(?::([0-5][0-9])(?:\.[0-9]+)?)?(Z\b)?(?![\w:]|[.,][0-9])"
)
_HOUR = re.compile(rf"(?<![\w:.,$/])(1[0-2]|0?[1-9]){_HALF}")
_RANGE = re.compile(
    rf"(?<![\w:.,$/-])([0-9]{{1,2}}(?::[0-5][0-9])?{_HALF}?) ?[-\u2013\u2014] ?"
    rf"(?=[0-9]{{1,2}}(?::[0-5][0-9]{_HALF}?|{_HALF}))"
)
_SENTENCE_STARTS = (
    r"(?=\s+(?:The|A|An|It|He|She|We|They|I|You|But|And|This|That|There|Then|In|If|So|My|Our|What|Who|Please)\b|\s*$)"
)
_ENDING = re.compile(_SENTENCE_STARTS, re.MULTILINE)


def spoken_times(tracked: Tracked) -> Tracked:
    """Times: "ten thirty A M", "fourteen oh five", "ten o'clock"."""
    return applied(tracked, _RULES) if tracked.has_digits else tracked


def half_of_day(match: re.Match[str], group: int) -> str:
    """ "A M" or "P M"; with a full stop if the dotted form also ended the sentence."""
    stop = "." if match[0].endswith(".") and _ENDING.match(match.string, match.end()) else ""
    return f"{match[group].upper()} M{stop}"


def _clock(match: re.Match[str]) -> str:
    with_half = match[1] is not None
    hour, minute, second = match.group(1, 2, 3) if with_half else match.group(5, 6, 7)
    said = _hour_and_minute(int(hour), minute, with_half or second is not None)
    if second is not None and second != "00":
        said += f" and {words.cardinal(second)} second{'' if second == '01' else 's'}"
    if with_half:
        return f"{said} {half_of_day(match, 4)}"
    return f"{said} U T C" if match[8] else said


def _hour_and_minute(hour: int, minute: str, bare: bool) -> str:
    if minute == "00":
        if hour in (0, 24):
            return "midnight"
        if bare:
            return words.cardinal(str(hour))
        return f"{words.cardinal(str(hour))} o'clock" if hour <= 12 else f"{words.cardinal(str(hour))} hundred"
    said = f"oh {words.cardinal(minute)}" if minute[0] == "0" else words.cardinal(minute)
    return f"{words.cardinal(str(hour))} {said}"


_RULES = (
    rule(_RANGE, lambda match: f"{match[1]} to ", "[-\u2013\u2014]", "[-\u2013\u2014] ?[0-9]"),
    rule(_CLOCK, _clock, hint="[0-9][:.][0-5]"),
    rule(_HOUR, lambda match: f"{words.cardinal(match[1])} {half_of_day(match, 2)}", hint="[0-9] ?[aApP]"),
)
