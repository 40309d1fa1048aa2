"""Money, percentages, temperatures and measures."""

import re

from serve_app.speech.text import number_words as words
from serve_app.speech.text.english.units import RATES, UNIT_NAMES, UNIT_PATTERN
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tables import pairs, table
from serve_app.speech.text.tracked import Tracked

_GROUPED_IN_TWOS = r"[0-9]{1,2}(?:,[0-9]{2}(?=,))++,[0-9]{3}(?:\.[0-9]++)?"
NUMBER = rf"(?:{_GROUPED_IN_TWOS}|[0-9]{{1,3}}(?:,[0-9]{{3}})++(?:\.[0-9]++)?|[0-9]++(?:\.[0-9]++)?|\.[0-9]++)"
"""An unsigned number with separators and decimals."""
SIGN = r"(?:(?<![\w.,%)-])[-+\u2212])?"
SIGNS = {"-": "minus ", "\u2212": "minus ", "+": "plus ", "": ""}
SCALES = table(
    """
    k: thousand | m: million | mn: million | mm: million | b: billion | bn: billion | t: trillion | tn: trillion
    """
)
_SCALE_WORDS = "thousand|million|billion|trillion"
_TO = r" ?[-\u2013\u2014] ?"

_CURRENCIES = pairs(
    """
    $: dollar, cent | US$: dollar, cent | USD$: dollar, cent | HK$: Hong Kong dollar, cent
    NZ$: New Zealand dollar, cent | R$: real, centavo | USD: U S dollar, cent | A$: Australian dollar, cent
    AUD: Australian dollar, cent | C$: Canadian dollar, cent | CAD: Canadian dollar, cent | \u20ac: euro, cent
    EUR: euro, cent | \xa3: pound, penny | GBP: pound, penny | \xa5: yen,  | JPY: yen,  | \u20b9: rupee, paisa
    Rs.: rupee, paisa | Rs: rupee, paisa
    INR: rupee, paisa | CHF: Swiss franc, centime | \u20a9: won,  | \u20bd: ruble, kopek | \u20bf: bitcoin,
    CNY: yuan,  | DKK: Danish krone,  | SEK: Swedish krona,  | NOK: Norwegian krone,  | \u20aa: shekel,
    \u20ba: lira,
    """
)
_PLURALS = table(
    """
    real: reais
    penny: pence | yen: yen | won: won | yuan: yuan | paisa: paise | lira: lira | Danish krone: Danish kroner
    Swedish krona: Swedish kronor | Norwegian krone: Norwegian kroner
    """
)
_CODES = "USD|EUR|GBP|JPY|INR|CHF|AUD|CAD|CNY|DKK|SEK|NOK"
_SYMBOL = (
    r"(USD?\$|A\$|C\$|HK\$|NZ\$|R\$|\bRs\.?(?= ?[0-9])|[$\u20ac\xa3\xa5\u20b9\u20a9\u20bd\u20bf\u20aa\u20ba]|"
    rf"(?<![A-Za-z])(?:{_CODES})(?= ?[0-9]))"
)
_SYMBOL_AFTER = rf"([\u20ac\xa3$\xa5]|(?:{_CODES})\b)"
_SCALE = rf"(?: ?({_SCALE_WORDS})\b|([kKmMbBtT]|[bmtBMT][nN]|MM)\b)?"

_MONEY_RANGE = re.compile(rf"{_SYMBOL} ?({NUMBER}){_SCALE}{_TO}(?:{_SYMBOL} ?)?({NUMBER}){_SCALE}(?![\w])")
_MONEY = re.compile(rf"({SIGN}){_SYMBOL}(-?) ?({NUMBER}){_SCALE}(?!\w)")
_MONEY_AFTER = re.compile(rf"(?<![\w.,])({SIGN})({NUMBER}){_SCALE} ?{_SYMBOL_AFTER}(?!\w)")
_MONEY_HINT = r"[$\u20ac\xa3\xa5\u20b9\u20a9\u20bd\u20bf\u20aa\u20ba]|[A-Z]{3}|Rs"
_CENTS = re.compile(rf"(?<![\w.,])({NUMBER}) ?\xa2|\xa2 ?({NUMBER})")
_PERCENT_RANGE = re.compile(rf"(?<![\w.,])({SIGN})({NUMBER}) ?%?{_TO}({NUMBER}) ?%")
_PERCENT = re.compile(rf"(?<![\w.,])({SIGN})({NUMBER}) ?([%\u2030])")
_TEMPERATURE = re.compile(
    rf"(?<![\w.,])({SIGN})({NUMBER})(?:{_TO}({SIGN}{NUMBER}))? ?(?:[\xb0\xba] ?([CFK])\b|[\xb0\xba](?!\w))"
)
_DEGREES = {"C": " Celsius", "F": " Fahrenheit", "K": " Kelvin", None: ""}
_INCHES = re.compile(
    rf"(?<![\w.,'\"])({NUMBER})\"(?= ?(?:x|tall|wide|long|high|deep|by|(screen|display|monitor|pipe))\b)"
)
_INCH_SIGN = re.compile(rf"(?<![\w.,'\"])({NUMBER})\"(?!\w)")
_QUOTE = re.compile('(?<![0-9])"')
_FEET_ALONE = re.compile(r"(?<![\w.,'])([0-9]{1,3})'(?= (?:tall|wide|long|high|deep|by|x|and [0-9])\b)")
_FEET = re.compile(r"(?<![\w.,'])([0-9]{1,2})' ?([0-9]{1,2})(?:\"|'')?(?![\w'])")
_SIZE = re.compile(rf"(?<![\w.,-])({NUMBER})(?: ?x ?|\xd7)(?=[0-9])")
_MEASURE = re.compile(
    rf"(?<![\w.,/\u2044])({SIGN})(?:({NUMBER}){_TO})?({NUMBER})[ -]?"
    rf"({UNIT_PATTERN})(?:/({UNIT_PATTERN}|day|month|year|week|hour)\b)?(?![\w/'\xb2\xb3])"
)
_UNIT_OF_FRACTION = re.compile(rf"(?<=[/\u2044][0-9]) ?({UNIT_PATTERN})(?![\w/'])")
_PER = re.compile(
    r"(?<=[a-z]) ?/ ?(mo|month|yr|year|hr|hour|h|day|week|wk|person|night|unit|"
    r"min|minute|sec|second|s|user|kg|lb|mile|km|GB)\b"
)


def spoken_amounts(tracked: Tracked) -> Tracked:
    """Money, percentages, temperatures and measures in words."""
    return applied(tracked, _RULES) if tracked.has_digits else tracked


def scaled(number: str, scale: str | None) -> str:
    """ "1.5", "M" as "one point five million"."""
    said = words.number(number)
    return f"{said} {SCALES.get(scale.lower(), scale.lower())}" if scale else said


def _money_range(match: re.Match[str]) -> str:
    symbol, low, high = match[1], match[2], match[6]
    high_scale = match[7] or match[8]
    low_scale = match[3] or match[4]
    return f"{scaled(low, low_scale)} to {_money(high, symbol, high_scale)}"


def _money(number: str, symbol: str, scale: str | None) -> str:
    name, small = _CURRENCIES[symbol]
    whole, _, decimals = number.replace(",", "").partition(".")
    if scale or not small or len(decimals) not in (0, 2):
        said = scaled(number, scale)
        return f"{said} {name if said == 'one' else _many(name)}"
    cents = int(decimals or 0)
    said_cents = _counted(str(cents), small) if cents else ""
    if cents and not int(whole or 0):
        return said_cents
    said = _counted(whole or "0", name)
    return f"{said} and {said_cents}" if cents else said


def _counted(number: str, one: str, many: str = "") -> str:
    said = words.number(number)
    return f"{said} {one if said == 'one' else many or _many(one)}"


def _many(name: str) -> str:
    return _PLURALS.get(name, f"{name}s")


def _percent(match: re.Match[str]) -> str:
    return f"{SIGNS[match[1]]}{words.number(match[2])} {'percent' if match[3] == '%' else 'per mille'}"


def _temperature(match: re.Match[str]) -> str:
    said = words.number(match[2])
    if match[3]:
        said += f" to {signed(match[3])}"
    return f"{SIGNS[match[1]]}{said} degree{'' if said == 'one' else 's'}{_DEGREES[match[4]]}"


def signed(number: str) -> str:
    """A number with an optional sign in words."""
    sign = number[0] if number[0] in SIGNS else ""
    return SIGNS[sign] + words.number(number.removeprefix(sign))


def _measure(match: re.Match[str]) -> str:
    sign, low, number, unit, per = match.groups()
    one, many = UNIT_NAMES[unit]
    said = f"{words.number(low)} to {words.number(number)}" if low else words.number(number)
    said = f"{SIGNS[sign]}{said} {one if said == 'one' else many}"
    return f"{said} per {RATES.get(per, UNIT_NAMES.get(per, (per,))[0])}" if per else said


def _inch_sign(match: re.Match[str]) -> str:
    """Inches, unless the sign closes a quotation."""
    if len(_QUOTE.findall(match.string, 0, match.start())) % 2:
        return match[0]
    is_before_a_thing = match.string[match.end() : match.end() + 2].strip().isalpha()
    return _counted(match[1], "inch", "inch" if is_before_a_thing else "inches")


_RULES = (
    rule(_MONEY_RANGE, _money_range, "[-\u2013\u2014]", _MONEY_HINT),
    rule(
        _MONEY,
        lambda match: SIGNS[match[1] or match[3]] + _money(match[4], match[2], match[5] or match[6]),
        hint=_MONEY_HINT,
    ),
    rule(
        _MONEY_AFTER, lambda match: SIGNS[match[1]] + _money(match[2], match[5], match[3] or match[4]), hint=_MONEY_HINT
    ),
    rule(_CENTS, lambda match: _counted(match[1] or match[2], "cent"), "\xa2"),
    rule(
        _PERCENT_RANGE,
        lambda match: f"{SIGNS[match[1]]}{words.number(match[2])} to {words.number(match[3])} percent",
        "%",
    ),
    rule(_PERCENT, _percent, "[%\u2030]"),
    rule(_TEMPERATURE, _temperature, "[\xb0\xba]"),
    rule(_FEET, lambda match: f"{_counted(match[1], 'foot', 'feet')} {words.cardinal(match[2])}", hint="[0-9]'"),
    rule(_FEET_ALONE, lambda match: _counted(match[1], "foot", "feet"), hint="[0-9]'"),
    rule(_INCHES, lambda match: _counted(match[1], "inch", "inch" if match[2] else "inches"), hint='[0-9]"'),
    rule(_INCH_SIGN, _inch_sign, hint='[0-9]"'),
    rule(_UNIT_OF_FRACTION, lambda match: f" {UNIT_NAMES[match[1]][0]}", hint="[/\u2044][0-9]"),
    rule(_MEASURE, _measure, hint=r"[0-9][ -]?[^\W\d_]"),
    rule(_SIZE, lambda match: f"{match[1]} by ", hint="[0-9] ?[x\xd7]"),
    rule(_PER, lambda match: f" per {RATES.get(match[1], match[1])}", "/"),
)
