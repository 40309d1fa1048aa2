"""Abbreviations, initials, acronyms and Roman numerals."""

import re

from serve_app.speech.text import number_words as words
from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tables import listed, table
from serve_app.speech.text.tracked import Tracked

_TITLES = table(
    """
    Mr: Mister | Mrs: Missus | Ms: Miz | Dr: Doctor | Prof: Professor | Gen: General | Sen: Senator
    Rep: Representative | Gov: Governor | Capt: Captain | Sgt: Sergeant | Lt: Lieutenant | Col: Colonel
    Rev: Reverend | Hon: Honorable | Pres: President | Mt: Mount | Ft: Fort | St: Saint | Messrs: Messieurs
    Adm: Admiral | Maj: Major | Cmdr: Commander | Fr: Father | Supt: Superintendent
    """
)
_ENDINGS = table(
    """
    St: Street | Dr: Drive | Ave: Avenue | Blvd: Boulevard | Rd: Road | Ln: Lane | Hwy: Highway | Pkwy: Parkway
    Sq: Square | Jr: Junior | Sr: Senior | Inc: Incorporated | Ltd: Limited | Co: Company | Corp: Corporation
    Bros: Brothers | Apt: Apartment | Ste: Suite | Dept: Department | Univ: University | Esq: Esquire | Ct: Court
    Pl: Place | Mfg: Manufacturing
    """
)
_SMALL = table(
    """
    e.g: for example | i.e: that is | etc: et cetera | vs: versus | cf: compare | approx: approximately
    dept: department | est: established | ca: circa | viz: namely | incl: including | max: maximum | min: minimum
    avg: average | tel: telephone | ext: extension | govt: government | misc: miscellaneous | resp: respectively
    et al: and others | temp: temperature | apt: apartment | appt: appointment | assn: association | hrs: hours
    hr: hour | mins: minutes | secs: seconds | yrs: years | lbs: pounds | oz: ounces | wt: weight
    a.k.a: also known as | p.s: P S | n.b: N B | w.r.t: with respect to | mt: mount | ed: edition
    """
)
_BARE = table(
    """
    vs: versus | etc: et cetera | w/o: without | w/: with  | b/c: because | c/o: care of | aka: also known as
    Mr: Mister | Mrs: Missus | Dr: Doctor | Prof: Professor | e.g: for example | i.e: that is | eg: for example
    tbsp: tablespoon | tsp: teaspoon | approx: approximately
    """
)
_BEFORE_NUMBER = table(
    """
    No: number | Nos: numbers | Fig: figure | fig: figure | p: page | pp: pages | Vol: volume | vol: volume
    Ch: chapter | ch: chapter | Sec: section | sec: section | Art: article | Eq: equation | Ref: reference
    Nr: number | no: number | Rm: room | Ext: extension
    """
)
_STARTERS = (
    r"(?:The|A|An|It|He|She|We|They|I|You|But|And|This|That|There|Then|In|If|So|My|Our|His|Her|What|Who|When|Where|"
    r"Please|No|Yes)\b"
)
_ENDS = re.compile(rf"\s*\Z|\n|[\"')]*\s+{_STARTERS}")

_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\.\s?(?=[A-Z&])")
_STREET = re.compile(rf"(?<=[A-Za-z0-9,&] )({'|'.join(_ENDINGS)})\.(?!\w)")
_NUMBERED = re.compile(rf"\b({'|'.join(_BEFORE_NUMBER)})\. ?(?=[0-9])")
_LOWER = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, _SMALL))})\.(?!\w)", re.IGNORECASE)
_UNDOTTED = re.compile(
    r"(?<![\w./])(?:(vs|etc|aka|eg|tbsp|tsp|approx|e\.g|i\.e)(?![\w./])|"
    r"(w/o|b/c|c/o)\b|(w/)(?=[\w ])|(Mr|Mrs|Dr|Prof)(?= [A-Z][a-z]))"
)
_DOTTED = re.compile(r"(?<![\w.])((?:[A-Za-z]\.){2,12})([A-Za-z](?![\w.]))?")
_DOCTORATE = re.compile(r"\bPh\.? ?D(?:\.|\b)")
_INITIALS = re.compile(rf"(?<![\w.])((?:[A-Z]\. ?){{1,8}})(?=(?!{_STARTERS})[A-Z][a-z'])")
_ROMAN = "(?=[IVX])(X{0,3}(?:IX|IV|V?I{0,3}))"
_LONG_ROMAN = r"(?=[IVXL])(?!L\b)((?:XL|L?X{0,3})(?:IX|IV|V?I{0,3}))"
_RULERS = "|".join(
    listed(
        """
        Henry Louis George Edward Charles James William Richard John Paul Pius Benedict Leo Elizabeth Mary
        Catherine Philip Philippe Frederick Christian Alexander Nicholas Napoleon Ramesses Gregory Innocent
        Clement Francis Friedrich Wilhelm Margrethe Peter Ivan Robert Stephen Urban Felipe Carlos Constantine
        """
    )
)
_NUMBERED_THINGS = (
    "World War|Chapter|Part|Volume|Act|Scene|Section|Article|Book|Phase|Type|Class|Level|Super Bowl|Stage|Grade|"
    "Appendix|Episode|Rocky|Final Fantasy|Star Wars|Title|Apollo|Mark|Schedule|Figure|Table"
)
# "Henry I think" is no king.
_PRONOUN = r"(?!I(?![IVX]|'s\b| of\b|[,;)]|\.$|$))"
_REGNAL = re.compile(rf"\b({_RULERS}) {_PRONOUN}{_ROMAN}(?![\w-]|'(?!s\b))", re.MULTILINE)
_COUNTED = re.compile(rf"\b({_NUMBERED_THINGS}) {_LONG_ROMAN}(?![\w-]|')")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50}

_SPELLED = frozenset(
    listed(
        """
        FBI CIA USA US UK EU UN UAE BBC CNN NBC ABC CBS HBO IBM AI API APIs CPU GPU USB URL URLs HTTP HTTPS
        HTML CSS SQL PDF XML JSON TV DVD CD PC ID IDs IT HR PR CEO CFO CTO COO VP PhD MBA BA MA MSc BSc MD
        RN DNA RNA HIV AC DC AM PM EST PST UTC GMT FM GPS SUV ATM IRS NYC LA NHS EPA FDA FAQ DIY UFO IQ EQ
        VIP RSVP FYI BTW ETA AKA DOB POV ROI KPI UI UX SDK IDE OS iOS IP VPN LLM TTS ASR NLP ML GDP NGO USSR
        UPS USPS NFL NBA MLB NHL MVP AAA EV ICU MRI ER BC BCE CE AD AP IPO ETF IRA CDC NSA DOJ ACLU NAACP
        AWS IoT AR VR XR
        """
    )
)
_ODD = table(
    """
    JSON: Jason | SQL: S Q L | iOS: i O S | PhD: P H D | AAA: triple A | NAACP: N double A C P | MSc: M S C
    BSc: B S C
    """
)
_SPOKEN_AS_WORDS = frozenset(listed("JPEG NASDAQ SCSI MHz GHz kHz"))
_CAPITALS = re.compile(r"(?<![\w'])([A-Z][A-Za-z]{0,2}[A-Z]{1,5}|PhD|MSc|BSc|iOS|IoT)(s|'s)?(?!\w|')")
_SHOUTED = re.compile(r"\b[A-Z']{4,}\b")
_TWO_CAPITALS = re.compile("[A-Z][A-Za-z]{0,2}[A-Z]")
_VOWEL = re.compile("[AEIOUY]")


_WORDS_TOO = frozenset(listed("min max ed temp ext mt wt ca est resp cf apt"))
"""At the end of a sentence these are taken as typed: "the max."."""


def spoken_names(tracked: Tracked) -> Tracked:
    """Abbreviations in full ("Doctor", "for example"), initials as single letters, Roman numerals as numbers."""
    return applied(tracked, _RULES)


def spoken_acronyms(tracked: Tracked) -> Tracked:
    """Acronyms without a vowel, and those known to be spelled, letter by letter. A text in capitals is left alone."""
    if len(tracked.text) < 2 or not _TWO_CAPITALS.search(tracked.text) or _is_shouted(tracked.text):
        return tracked
    return tracked.sub(_CAPITALS, _acronym)


def _is_shouted(text: str) -> bool:
    capitals = sum(len(word) for word in _SHOUTED.findall(text))
    return 2 * capitals > sum(map(str.isalpha, text)) and len(_SHOUTED.findall(text)) > 1


def _title(match: re.Match[str]) -> str:
    name = match[1]
    before = match.string[max(0, match.start() - 40) : match.start()]
    if name in _ENDINGS and re.search(r"[0-9] (?:[A-Z]\w* ){1,3}$", before):
        return f"{_ENDINGS[name]} "
    return f"{_TITLES[name]} "


def _small(match: re.Match[str]) -> str:
    word = match[1].lower()
    if word in _WORDS_TOO and _stop(match):
        return match[0]
    if word == "etc":
        after = match.string[match.end() : match.end() + 3].lstrip("\"')")
        return _SMALL[word] + ("." if not after.strip() or after[:1] == "\n" or after.lstrip()[:1].isupper() else "")
    return _SMALL[word] + _stop(match)


def _stop(match: re.Match[str]) -> str:
    """The full stop of an abbreviation, if it ended the sentence too."""
    return "." if _ENDS.match(match.string, match.end()) else ""


def _dotted(match: re.Match[str]) -> str:
    letters = (match[1] + (match[2] or "")).replace(".", "")
    if letters in ("eg", "ie"):
        return {"eg": "for example", "ie": "that is"}[letters]
    said = " ".join(letters.upper())
    return said + ("" if match[2] else _stop(match))


def _roman(numeral: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in numeral]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def _acronym(match: re.Match[str]) -> str:
    word = match[1]
    known = word in _SPELLED or word in _ODD
    if not known and (not word.isupper() or _VOWEL.search(word) or word in _SPOKEN_AS_WORDS):
        return match[0]
    said = _ODD.get(word) or " ".join(word.upper())
    return said + (match[2] if match[2] == "'s" else "s" if match[2] else "")


def _rarest(abbreviation: str) -> str:
    """The part of "a.k.a" that ordinary texts hold least often."""
    parts = re.split("[ ./]", abbreviation)
    return next((part for part in parts if part not in ("a", "i", "n", "o", "s", "t", "et")), parts[0])


_RULES = (
    rule(_NUMBERED, lambda match: f"{_BEFORE_NUMBER[match[1]]} ", "[0-9]", words=_BEFORE_NUMBER),
    rule(_TITLE, _title, r"\.", words=_TITLES),
    rule(_STREET, lambda match: _ENDINGS[match[1]] + _stop(match), r"\.", words=_ENDINGS),
    rule(_LOWER, _small, r"\.", words=map(_rarest, _SMALL)),
    rule(
        _UNDOTTED,
        lambda match: _BARE[match[1] or match[2] or match[3] or match[4]],
        words=map(_rarest, _BARE),
    ),
    rule(_DOCTORATE, lambda match: "P H D" + (_stop(match) if match[0].endswith(".") else ""), words=("ph", "phd")),
    rule(_DOTTED, _dotted, hint=r"\.[A-Za-z]"),
    rule(_INITIALS, lambda match: match[1].replace(".", " ").replace("  ", " "), hint=r"\.(?<=\b[A-Z]\.)"),
    rule(
        _REGNAL,
        lambda match: f"{match[1]} the {words.ordinal(str(_roman(match[2])))}",
        hint=" [IVX]",
        words=_RULERS.split("|"),
    ),
    rule(
        _COUNTED,
        lambda match: f"{match[1]} {words.cardinal(str(_roman(match[2])))}",
        hint=" [IVXL]",
        words=(thing.split()[-1] for thing in _NUMBERED_THINGS.split("|")),
    ),
)
