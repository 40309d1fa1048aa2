"""Signs that a reader says or takes as a pause, and the dropping of the rest."""

import re
import unicodedata
from collections import Counter

from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tables import table
from serve_app.speech.text.tracked import Tracked

_SAID = table(
    """
    &: and | @: at | %: percent | \u2030: per mille | +: plus | \xb1: plus or minus | =: equals
    \u2260: is not equal to | \u2248: is about | \u2245: is about | \u2261: is identical to | <: less than
    >: greater than | \u2264: less than or equal to | \u2265: greater than or equal to | \xd7: times | \u22c5: times
    \u2217: times | \xf7: divided by | \u2212: minus | \u221a: square root of | \u221e: infinity | \u2211: sum
    \u220f: product | \u222b: integral | \u2202: partial | \u2206: delta | \u2207: nabla | \u2208: in
    \u2209: not in | \u2229: intersection | \u222a: union | \u2282: subset of | \u2200: for all
    \u2203: there exists | \u2192: to | \u21d2: implies | \u2190: from | \u2194: to and from | $: dollars
    \u20ac: euros | \xa3: pounds | \xa5: yen | \xa2: cents | \xa7: section | \xb6: paragraph | \xb0: degrees
    \xa9: copyright | \xae: registered | \u2122: trademark | #: number | \u2116: number | \xb2: squared
    \xb3: cubed | \u2245 : is about | \u2b06: up | \u2b07: down | \u2191: up | \u2193: down | ^: to the power of
    \u2032: prime | \u2033: double prime | \u20b9: rupees | \u20bf: bitcoin | \u20bd: rubles | \u20a9: won
    \u221d: is proportional to | \xac: not | \u2227: and | \u2228: or | \u2234: therefore | \u2235: because
    \u2220: angle | \u22a5: perpendicular to | \u2225: parallel to
    """
)
_MINUS_SIGNS = "-\u2212"
_SUPERSCRIPTS = str.maketrans("\u2070\xb9\xb2\xb3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-")
_SUBSCRIPTS = str.maketrans("\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u208a\u208b", "0123456789+-")
_SUPERSCRIPT = re.compile("(?<=[\\w)])[\u207a\u207b]?[\u2070\xb9\xb2\xb3\u2074-\u2079]++")
_SUBSCRIPT = re.compile("[\u2080-\u208b]++")
_POWER_OF_A_LETTER = re.compile(r"(?<=[A-Za-z)])\^\(?([-\u2212]?[0-9]{1,4}|[a-z])\)?(?![\w.]\w)")
_TWO_SIGNS = {">=": "\u2265", "<=": "\u2264", "!=": "\u2260"}
_AT_LEAST = re.compile("(?<![-=<>!])[<>!]=(?![=>])")
_STARS = re.compile("\u2605+\u2606+|\u2605{2,}")
_STARS_OF_A_NUMBER = re.compile("(?<=[0-9]) ?\u2605(?!\u2605)")
_NUMBER_SIGN = re.compile("(?<!\\w)[#\u2116] ?(?=[0-9])")
_MORE_THAN = re.compile(r"(?<=[0-9])\+(?= [a-zA-Z]|[.,;]? *$|[.,;] )", re.MULTILINE)
_MINUS = re.compile(r"(?<=[\w)]) [-\u2212\u2013] (?=[(0-9])|(?<=[0-9)]) [-\u2212\u2013] (?=[a-zA-Z]\b)")
_TIMES = re.compile(r"(?<=[0-9)]) ?[*\xd7\u22c5\xb7] ?(?=[0-9(])|(?<=\w) [*\xd7\u22c5] (?=\w)|(?<=[0-9]) x (?=[0-9])")
_DIVIDED = re.compile(r"(?<=[0-9)]) / (?=[0-9(])")
_TIMES_EACH = re.compile(r"(?<=[0-9])[x\xd7](?=[ .,;!?)\n]|$)")
_ARROW = re.compile(r"[-=]+>")
_SHARP = re.compile(r"(?<=\b[CFG])#(?!\w)")
_COPYRIGHT = re.compile(r"\([cC]\)(?= ?[0-9]{4})")
_NAME_MARK = re.compile("[\u2122\xae]")
_DASH = re.compile(
    r" ?[\u2012-\u2015\u2e3a\u2e3b]+ ?| -{1,3}(?: |$)|(?<=\w)-{2,3}(?=\w)| ?-{2,3} ?| ?\u2e3a ?", re.MULTILINE
)
_OR = re.compile(r"\b(and)/(or)\b|(?<![\\/.-])\b([a-z]{2,12})/([a-z]{2,12})\b(?!/)", re.IGNORECASE)
_SLASH = re.compile(r" ?/ ?")
_DECORATION = re.compile(r"([^\w\s.,?!'\"()])\1{2,}+")
_PAUSES = re.compile("[|\u2022\u2023\u25aa\u25cf\u25e6\xb7\u2027\u3001\uff0c\uff1b\uff1a]")
_WIDE_MARKS = str.maketrans("\u3002\uff01\uff1f\uff08\uff09\uff0e\u203c\u2049\u2047\u203d", ".!?().!??!")
_WIDE_MARK = re.compile("[\u3002\uff01\uff1f\uff08\uff09\uff0e\u203c\u2049\u2047\u203d]")
_BRACKETS = re.compile(r"[\[{]|[\]}]")
_SILENT = re.compile("[*_~`^\\\\\xa1\xbf\xa8\xaf\xb8\xb4\u2020\u2021]")
_KEPT = ".,?!;:'\"()- \n"
_SIGN = re.compile(r"[^\w\s.,?!;:'\"()-]|[_\u2070-\u209c\u00b2\u00b3\u00b9]")
_LONE_HYPHEN = re.compile(r"(?<!\w)-+(?!\w)|(?<!\w)-+(?=\w)|(?<=\w)-+(?!\w)")
SIGNS_KIND = "signs without a name"
DIGITS_KIND = "digits of other scripts"


def signs_beside_numbers(tracked: Tracked) -> Tracked:
    """Signs whose meaning shows while the numbers are still digits: "#5", "~20", "x\u00b2", "3 - 2"."""
    tracked = applied(tracked, _BESIDE_NUMBERS)
    return applied(tracked, _DIFFERENCES) if "=" in tracked.characters else tracked


def spoken_signs(tracked: Tracked, dropped: Counter[str]) -> Tracked:
    """Words and pauses for the signs that are left. `dropped` counts those that have neither."""

    tracked = applied(tracked, _SIGNS)
    if _SIGN.search(tracked.characters):
        tracked = tracked.sub(_SIGN, lambda match: _said(match[0], dropped))
    return applied(tracked, _LONE_HYPHENS)


def _said(sign: str, dropped: Counter[str]) -> str:
    if sign in _SAID:
        return f" {_SAID[sign]} "
    if unicodedata.category(sign)[0] == "M" or sign == "\u200c" or sign == "\u200d":
        return sign
    dropped[SIGNS_KIND] += 1
    return " "


def _superscript(match: re.Match[str]) -> str:
    return _raised(match[0].translate(_SUPERSCRIPTS))


def _raised(exponent: str) -> str:
    if exponent in ("2", "3"):
        return " squared" if exponent == "2" else " cubed"
    sign = "minus " if exponent[0] in _MINUS_SIGNS else ""
    return f" to the power of {sign}{exponent.lstrip(_MINUS_SIGNS + '+')}"


def _stars(match: re.Match[str]) -> str:
    """A rating. Empty stars only tell that the row is one."""
    count = match[0].count("\u2605")
    return f" {count} star{'' if count == 1 else 's'} "


_BESIDE_NUMBERS = (
    rule(_SUPERSCRIPT, _superscript, "[\u2070\xb9\xb2\xb3\u2074-\u2079]"),
    rule(_SUBSCRIPT, lambda match: match[0].translate(_SUBSCRIPTS), "[\u2080-\u208b]"),
    rule(_POWER_OF_A_LETTER, lambda match: _raised(match[1]), r"\^"),
    rule(_AT_LEAST, lambda match: _TWO_SIGNS[match[0]], "=", "[<>!]="),
    rule(_STARS, _stars, "\u2605"),
    rule(_STARS_OF_A_NUMBER, " stars", "\u2605"),
    rule(_NUMBER_SIGN, "number ", "[#\u2116]"),
    rule(_MORE_THAN, " plus", r"\+"),
    rule(_COPYRIGHT, "copyright", r"\("),
    rule(_TIMES, " times ", hint="[*\xd7\u22c5\xb7]|[0-9] x "),
    rule(_DIVIDED, " divided by ", "/"),
    rule(_TIMES_EACH, " times", hint="[0-9][x\xd7]"),
)
_DIFFERENCES = (rule(_MINUS, " minus "),)
_SIGNS = (
    rule(_WIDE_MARK, lambda match: match[0].translate(_WIDE_MARKS), _WIDE_MARK.pattern),
    rule(_NAME_MARK, "", _NAME_MARK.pattern),
    rule(_ARROW, " to ", ">"),
    rule(_SHARP, " sharp", "#"),
    rule(_DASH, ", ", "[-\u2012-\u2015\u2e3a\u2e3b]", " -|--|[\u2012-\u2015\u2e3a\u2e3b]"),
    rule(_DECORATION, " ", r"[^\w\s.,?!'\"()]", r"[^\w\s.,?!'\"()]{3}"),
    rule(_PAUSES, ", ", _PAUSES.pattern),
    rule(_OR, lambda match: f"{match[1] or match[3]} {'' if match[1] else 'or '}{match[2] or match[4]}", "/"),
    rule(_SLASH, " slash ", "/"),
    rule(_BRACKETS, lambda match: "(" if match[0] in "[{" else ")", r"[\[{\]}]"),
    rule(_SILENT, " ", _SILENT.pattern),
)
_LONE_HYPHENS = (rule(_LONE_HYPHEN, " ", "-"),)
