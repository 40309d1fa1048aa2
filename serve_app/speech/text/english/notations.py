"""Numbers in other notations become those that the later rules read: decimal commas, groups by points or spaces."""

import re

from serve_app.speech.text.english.units import UNIT_PATTERN
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tracked import Tracked

_FREE = r"(?<![\w.,/'-])"
_GROUPED = re.compile(
    rf"{_FREE}[0-9]{{1,3}}(?:(?: [0-9]{{3}})+|(?:\.[0-9]{{3}})+|(?:'[0-9]{{3}})+),[0-9]{{1,2}}(?![\w.,-]?[0-9]|\w)"
    rf"|{_FREE}[0-9]{{1,3}}(?:(?: [0-9]{{3}})+|(?:'[0-9]{{3}})+)\.[0-9]{{1,2}}(?![\w.,-]?[0-9]|\w)"
)
_GROUPED_BY_POINTS = re.compile(rf"(?<![Vv]ersion ){_FREE}[0-9]{{1,3}}(?:\.[0-9]{{3}}){{2,}}(?![\w.,-]?[0-9]|\w)")
_DECIMAL_COMMA = re.compile(
    rf"{_FREE}([0-9]+),([0-9]{{1,2}})(?= ?(?:[%\u2030\u20ac\xb0]|(?:EUR|CHF|DKK|SEK|NOK|{UNIT_PATTERN})(?!\w)))"
    r"|(?<=\u20ac)( ?[0-9]+),([0-9]{2})(?![0-9,])"
)
_HOURS_AND_MINUTES = re.compile(r"(?<![\w.,])([0-9]{1,3}) ?h ?([0-5]?[0-9]) ?m(?:in)?(?!\w)")
_MINUTES_AND_SECONDS = re.compile(r"(?<![\w.,])([0-9]{1,3}) ?m ?([0-5]?[0-9]) ?s(?!\w)")
_SECONDS = re.compile(
    r"(?<![\w.,])(\b(?:in|for|after|every|takes|within|about|another) |~)?([0-9]+)s\b"
    r"( (?:timer|video|clip|delay|timeout|window|break|ad|spot|exposure|limit|interval|rest|wait|pause|timeouts)\b)?",
    re.IGNORECASE,
)
_CLOCK_HOURS = re.compile(r"(?<=[0-9]:[0-5][0-9]) ?(?:h|Uhr|hrs)\b")
_ORDINAL_RANGE = re.compile(r"(?<=[0-9](?:st|nd|rd|th)) ?[-\u2013\u2014] ?(?=[0-9]{1,3}(?:st|nd|rd|th)\b)")
_ABOUT = re.compile(r"(?<![\w/])[~\u223c\u2248] ?(?=[$\u20ac\xa3]?[0-9])")


def usual_notation(tracked: Tracked) -> Tracked:
    """Numbers as English writes them: "1.234,50" as "1,234.50", "1,5 kg" as "1.5 kg"."""
    return applied(tracked, _RULES) if tracked.has_digits else tracked


def _grouped_by_commas(match: re.Match[str]) -> str:
    groups = re.split("[ .,']", match[0])
    decimals = f".{groups.pop()}" if len(groups[-1]) < 3 else ""
    if not decimals and len(groups) == 4 and all(int(group) < 256 for group in groups):
        return match[0]  # An address on a network.
    return ",".join(groups) + decimals


def _seconds(match: re.Match[str]) -> str:
    """ "in 30s" and "a 30s timer", but neither "in his 30s" nor "the 90s"."""
    before, number, thing = match.group(1, 2, 3)
    if not before and not thing:
        return match[0]
    return f"{before or ''}{f'{number} second{thing}' if thing else _counted(number, 'second')}"


def _counted(number: str, one: str) -> str:
    return f"{number} {one}{'' if number == '1' else 's'}"


_RULES = (
    rule(_GROUPED, _grouped_by_commas, hint=r"[0-9][ .'][0-9]{3}.*?[.,][0-9]"),
    rule(_GROUPED_BY_POINTS, _grouped_by_commas, hint=r"[0-9]\.[0-9]{3}\.[0-9]{3}"),
    rule(
        _DECIMAL_COMMA,
        lambda match: f"{match[1] or match[3]}.{match[2] or match[4]}",
        hint="[0-9],[0-9]{1,2}(?![0-9])",
    ),
    rule(
        _HOURS_AND_MINUTES,
        lambda match: f"{_counted(match[1], 'hour')} {_counted(match[2], 'minute')}",
        hint="[0-9] ?h ?[0-9]",
    ),
    rule(
        _MINUTES_AND_SECONDS,
        lambda match: f"{_counted(match[1], 'minute')} {_counted(match[2], 'second')}",
        hint="[0-9] ?m ?[0-9]",
    ),
    rule(_SECONDS, _seconds, hint="[0-9][sS\u017f]"),
    rule(_CLOCK_HOURS, "", hint=":[0-5][0-9] ?[hU]"),
    rule(_ORDINAL_RANGE, " to ", "[-\u2013\u2014]", "[a-z] ?[-\u2013\u2014] ?[0-9]"),
    rule(_ABOUT, "about ", "[~\u223c\u2248]"),
)
