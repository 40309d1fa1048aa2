"""Numbers of every other kind: phone numbers, versions, fractions, ranges, ordinals, years, digit strings."""

import re
from collections.abc import Iterable

from serve_app.speech.text import number_words as words
from serve_app.speech.text.english.amounts import NUMBER, SIGN, SIGNS, scaled
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tables import table
from serve_app.speech.text.tracked import Tracked

_DENOMINATORS = table(
    """
    2: half | 3: third | 4: quarter | 5: fifth | 6: sixth | 7: seventh | 8: eighth | 9: ninth | 10: tenth
    16: sixteenth | 32: thirty-second | 100: hundredth
    """
)
_FREE = r"(?<![\w.,/:+-])"
_DONE = r"(?![\w/:]|[.,-][0-9])"

_PHONE = re.compile(
    r"(?<![\w.,/-])(?:\+?1[ .-]?)?(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}(?![\w-]|\.[0-9])"
    r"|(?<![\w.,/-])[0-9]{3}-[0-9]{4}(?![\w-]|\.[0-9])"
    r"|(?<![\w.,/-])\+[0-9]{1,3}(?:[ .-]?\(?[0-9]{1,5}\)?){2,6}(?![\w-]|\.[0-9])"
)
_TOLL_FREE = re.compile(r"(?<![\w.,/-])(1[ -])?8(?:00|33|44|55|66|77|88)-(?=[A-Z]{2,}(?:-[A-Z]{2,})*(?![\w]))")
_SHORT_CODE = re.compile(
    r"\b((?:call|dial|dialed|dialled|ring|phone|text) )(?![0-9]+00\b)([0-9]{3,6})(?:( or )([0-9]{3,6}))?"
    r"(?= *(?:[.,;:!?)\n]|$)| (?:now|or|for|if|in|when|immediately|to|and|right|from|as|before|after)\b)",
    re.IGNORECASE,
)
_EARLY_YEAR = re.compile(r"(?<=\b[Ii]n )10[0-9]{2}(?=[.,;:!?)](?![0-9])|$| [A-Z]| the\b| a\b)", re.MULTILINE)
_EXTENSION = re.compile(r"(?<=[0-9]{3}-[0-9]{4}) (?:x|ext\.?) ?([0-9]{1,5})\b")
_BLOCKS = re.compile(
    rf"{_FREE}(?:[0-9]{{4}}[ -]){{3}}[0-9]{{1,4}}{_DONE}|{_FREE}[0-9]{{3}}-[0-9]{{2}}-[0-9]{{4}}{_DONE}"
)
_CHAIN = re.compile(rf"{_FREE}[0-9]{{1,9}}(?:-[0-9]{{1,9}}){{2,8}}{_DONE}")
_SPACED = re.compile(
    r"(?<![\w.,/-])[0-9]{1,3}(?:'[0-9]{3}){1,6}(?![\w'])"
    r"|(?<![\w.,/-])[0-9]{1,3}(?: [0-9]{3}){2,11}(?![\w.,-]?[0-9])(?!\w)"
)
_NATIONAL = re.compile(
    r"(?<!\w)\(0[1-9][0-9]{0,3}\) ?[0-9]{3,4}(?: [0-9]{3,4}){1,2}(?![\w-])"
    r"|(?<![\w.,/-])(?<![0-9] )0[1-9][0-9]{1,3}(?: [0-9]{3,4}){1,3}(?![\w-])"
)
_IP = re.compile(
    rf"{_FREE}([0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}})(?:/([0-9]{{1,2}}))?(?:(:)([0-9]{{2,5}}))?(?![\w/]|[.,][0-9])"
)
_VERSION = re.compile(
    r"(?<![\w.,/])([vV](?:er)?\.? ?)?([0-9]{1,4}(?:\.[0-9]{1,5}){2,5})(?![\w/]|[.,][0-9])|"
    r"(?<![\w.])[vV]([0-9]{1,4}(?:\.[0-9]{1,4})?)(?![\w/]|\.[0-9])"
)
_MIXED = re.compile(
    r"(?<![\w.,/])([0-9]{1,4})(?: | ?(?=[0-9]\u2044))([0-9]{1,2})[/\u2044]([0-9]{1,3})(?![\w/]|[.,][0-9])"
)
_FRACTION = re.compile(r"(?<![\w.,/])([0-9]{1,4})[/\u2044]([0-9]{1,4})(?:-?(th|rds?|ths|nd))?(?![\w/]|[.,][0-9])")
_POWER = re.compile(rf"(?<![\w.,])({NUMBER})(?: ?(?:[x\xd7*]|\xd7) ?10)?\^([-\u2212]?[0-9]{{1,4}})(?![\w.])")
_EXPONENT = re.compile(rf"(?<![\w.,])({SIGN})({NUMBER})[eE]([-+]?[0-9]{{1,3}})\b")
_ORDINAL = re.compile(r"(?<![\w.])([0-9]{1,3}(?:,[0-9]{3})*|[0-9]+)(st|nd|rd|th)(?!\w)", re.IGNORECASE)
_YEARS = re.compile(
    r"(?<![\w.,/$-])(1[1-9][0-9]{2}|20[0-9]{2}) ?[-\u2013\u2014] ?"
    r"(?:(1[1-9][0-9]{2}|20[0-9]{2})|([0-9]{2}))(?![\w/-]|[.,][0-9])"
)
_RANGE = re.compile(rf"(?<![\w.,/-])({NUMBER})(?:-|\u2013| ?\u2013 ?|\u2014)(?={NUMBER}(?![\w/-]))")
_ALWAYS = re.compile(r"(?<![\w/])24/7/365(?![\w/])")
_RATIO = re.compile(rf"{_FREE}([0-9]{{1,4}}):(?=[0-9]{{1,4}}(?![\w:.,-]?[0-9:]))")
_YEAR = re.compile(r"(?<![\w.,/$#+-])(1[1-9][0-9]{2}|20[0-9]{2})(?:('s)|(?![\w/]|[.,][0-9]))")
_SCALED = re.compile(rf"(?<![\w.,])({SIGN})({NUMBER}) ?(?:(million|billion|trillion|thousand)|(M|bn|mn))\b")
_LONG = re.compile(r"(?<![\w.,])(0[0-9]+|[0-9]{7,})(?![\w]|[.,][0-9])")
_ZIP = re.compile(r"(?<=\b[A-Z]{2} )([0-9]{5})(?:-([0-9]{4}))?(?![\w.,-]?[0-9])")
_PLAIN = re.compile(rf"(?<![\w.,])(?<![^\W\d_]-)({SIGN})({NUMBER})(?!\w|\.[0-9])")
_ANY = re.compile(
    r"(?<=[^\W\d_])-?([0-9]++(?:\.[0-9]++)?)(?=[^\W\d_])|(?<=[^\W\d_])-?([0-9]++(?:\.[0-9]++)?)|([0-9]++(?:\.[0-9]++)?)-?(?=[^\W\d_])|([0-9]++)"
)


def spoken_numbers(tracked: Tracked) -> Tracked:
    """Every number that is left in words. No ASCII digit remains."""
    return applied(tracked, _RULES) if tracked.has_digits else tracked


def digit_string(digits: str) -> str:
    """A number that identifies something, digit by digit in groups; a round one ("1000000") as a number."""
    if digits[0] != "0" and digits.endswith("0000") and len(digits) <= 13:
        return words.cardinal(digits)
    last = max(1, len(digits) // 3) - 1
    return _in_groups([digits[3 * n : 3 * n + 3] for n in range(last)] + [digits[3 * last :]])


def _in_groups(groups: Iterable[str]) -> str:
    """Groups of digits, spelled, with a pause between them."""
    return ", ".join(words.spelled(group) for group in groups)


def _phone(match: re.Match[str]) -> str:
    groups = re.findall("[0-9]+", match[0])
    said = [("eight hundred" if group == "800" and len(groups) > 2 else words.spelled(group)) for group in groups]
    return ("plus " if match[0].startswith("+") else "") + ", ".join(said)


def _toll_free(match: re.Match[str]) -> str:
    """ "1-800-" before a word. The word is said, not spelled: a listener knows where its letters are."""
    code = match[0].strip("- ")[-3:]
    said = "eight hundred" if code == "800" else words.spelled(code)
    return f"{'one, ' if match[1] else ''}{said}, "


def _short_code(match: re.Match[str]) -> str:
    other = f"{match[3]}{words.spelled(match[4])}" if match[4] else ""
    return f"{match[1]}{words.spelled(match[2])}{other}"


def _ip(match: re.Match[str]) -> str:
    said = " dot ".join(words.cardinal(part) for part in match[1].split("."))
    said += f" slash {words.cardinal(match[2])}" if match[2] else ""
    return said + (f" port {words.cardinal(match[4])}" if match[4] else "")


def _version(match: re.Match[str]) -> str:
    number = match[2] or match[3]
    said = " point ".join(words.cardinal(part) for part in number.split("."))
    return f"version {said}" if match[1] or match[3] else said


def _exponent(match: re.Match[str]) -> str:
    exponent = ("minus " if match[3][0] == "-" else "") + words.cardinal(match[3].lstrip("+-"))
    return f"{SIGNS[match[1]]}{words.number(match[2])} times ten to the power of {exponent}"


def _power(match: re.Match[str]) -> str:
    exponent = match[2]
    base = words.number(match[1]) + (
        " times ten" if "10^" in match[0] and match[1] != "10" and len(match[0]) > len(f"{match[1]}^{exponent}") else ""
    )
    if exponent in ("2", "3") and not base.endswith(" times ten"):
        return f"{base} {'squared' if exponent == '2' else 'cubed'}"
    sign = "minus " if exponent[0] in "-\u2212" else ""
    return f"{base} to the power of {sign}{words.cardinal(exponent.lstrip('-' + chr(0x2212)))}"


def _fraction(top: str, bottom: str, one: str) -> str:
    if (top, bottom) == ("24", "7"):
        return "twenty-four seven"
    if (top, bottom) in (("9", "11"), ("50", "50")):
        return f"{words.cardinal(top)} {words.cardinal(bottom)}"
    if bottom == "10" and top != "1":
        return f"{words.cardinal(top)} out of ten"
    name = _DENOMINATORS.get(bottom)
    if name is None or int(top) == 0:
        return f"{words.cardinal(top)} over {words.cardinal(bottom)}"
    if int(top) == int(bottom):
        return f"{words.cardinal(top)} out of {words.cardinal(bottom)}"
    if top == "1":
        return f"{one} {name}"
    return f"{words.cardinal(top)} {'halves' if name == 'half' else f'{name}s'}"


def _inside_a_word(match: re.Match[str]) -> str:
    """Digits beside letters: "B2B", "GPT-4", "10-year-old"."""
    inside, after, before, alone = match.groups()
    number = next(part for part in (inside, after, before, alone) if part is not None)
    whole = number.partition(".")[0]
    said = (
        words.number(number)
        if len(whole) < 7 and (whole == "0" or whole[0] != "0")
        else words.spelled(number.replace(".", ""))
    )
    if alone:
        return f" {said} "
    return (" " if inside or after else "") + said + (_joint(match) if inside or before else "")


def _joint(match: re.Match[str]) -> str:
    return "-" if match[0].endswith("-") else " "


_RULES = (
    rule(_EXTENSION, lambda match: f" extension {words.spelled(match[1])}", hint="[0-9] (?:x|ext)"),
    rule(_TOLL_FREE, _toll_free, hint="8[0-9]{2}-[A-Z]"),
    rule(_SHORT_CODE, _short_code, words=("call", "dial", "dialed", "dialled", "ring", "phone", "text")),
    rule(_PHONE, _phone, hint=r"[0-9]{3}[ .-][0-9]{4}|\+[0-9]"),
    rule(
        _BLOCKS, lambda match: _in_groups(re.split("[ -]", match[0])), hint="[0-9]{4}[ -][0-9]{4}|[0-9]-[0-9]{2}-[0-9]"
    ),
    rule(_NATIONAL, _phone, "0", "[0-9] [0-9]{3}"),
    rule(_CHAIN, lambda match: _in_groups(match[0].split("-")), hint="[0-9]-[0-9]{1,9}-[0-9]"),
    rule(_SPACED, lambda match: words.cardinal(re.sub("[ ']", "", match[0])), hint="[0-9][ '][0-9]{3}"),
    rule(_IP, _ip, hint=r"[0-9]\.[0-9]{1,3}\.[0-9]"),
    rule(_VERSION, _version, hint=r"[0-9]\.[0-9]{1,5}\.|[vV][0-9]"),
    rule(_EXPONENT, _exponent, hint="[0-9][eE][-+0-9]"),
    rule(_POWER, _power, r"\^"),
    rule(_ALWAYS, "twenty-four seven, three sixty-five", "/"),
    rule(_MIXED, lambda match: f"{words.cardinal(match[1])} and {_fraction(match[2], match[3], 'a')}", "[/\u2044]"),
    rule(_FRACTION, lambda match: _fraction(match[1], match[2], "one"), "[/\u2044]"),
    rule(_ORDINAL, lambda match: words.ordinal(match[1]), hint="[0-9][sSnNrRtT\u017f]"),
    rule(
        _YEARS,
        lambda match: f"{words.year(match[1])} to {words.year(match[2]) if match[2] else words.cardinal(match[3])}",
        hint="[0-9] ?[-\u2013\u2014] ?[0-9]",
    ),
    rule(_RANGE, lambda match: f"{words.number(match[1])} to ", "[-\u2013\u2014]", "[-\u2013\u2014] ?[.0-9]"),
    rule(_RATIO, lambda match: f"{words.cardinal(match[1])} to ", hint="[0-9]:[0-9]"),
    rule(_SCALED, lambda match: SIGNS[match[1]] + scaled(match[2], match[3] or match[4]), hint="[0-9] ?[a-zM]"),
    rule(_ZIP, lambda match: _in_groups(group for group in match.groups() if group), hint="[A-Z] [0-9]{5}"),
    rule(_EARLY_YEAR, lambda match: words.year(match[0]), hint="n 10[0-9]{2}"),
    rule(_YEAR, lambda match: words.year(match[1]) + (match[2] or ""), hint="[12][0-9]{3}"),
    rule(_LONG, lambda match: digit_string(match[1]), hint="[0-9]{2}"),
    rule(_PLAIN, lambda match: SIGNS[match[1]] + words.number(match[2]), "[0-9]"),
    rule(_ANY, _inside_a_word, "[0-9]"),
)
