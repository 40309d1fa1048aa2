"""Markdown and HTML become the words and pauses that a reader makes of them.

A Markdown parser would tell lines but not characters, and would lose where each word was typed. So these are rules
over lines, each of which keeps to what a person writes.
"""

import html
import re
from collections import Counter

from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tracked import Tracked

_COMMENT = re.compile(r"<!--(?:[^-<]|-(?!->)|<(?!!--)){0,4000}+-->")
_BREAK_TAG = re.compile(r"<(?:br|hr)\b[^<>]{0,200}+>", re.IGNORECASE)
_ITEM_TAG = re.compile(r"<(?:li|tr|dt|dd|option)\b[^<>]{0,400}+>", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"</?(?:p|div|h[1-6]|ul|ol|table|section|article|blockquote|header|footer|pre|dl|title)\b[^<>]{0,400}+>",
    re.IGNORECASE,
)
_CELL_TAG = re.compile(r"</t[dh]>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9:-]{0,30}+(?:\s[^<>]{0,1000}+)?/?>|<![a-zA-Z][^<>]{0,200}+>")
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_ADDRESS = re.compile(r"<((?:https?://|mailto:)[^\s<>]{1,500}+|[^\s<>@]{1,100}+@[^\s<>]{1,200}+)>")

_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:(?:\*[ \t]*+){3,}+|(?:-[ \t]*+){3,}+|(?:_[ \t]*+){3,}+|={3,}+[ \t]*+)$", re.MULTILINE)
_TABLE_RULE = re.compile(
    r"^[ \t]*+\|?[ \t]*+:?-{2,}+:?[ \t]*+(?:\|[ \t]*+:?-{2,}+:?[ \t]*+)*+\|?[ \t]*+$\n?", re.MULTILINE
)
_ROW_START = re.compile(r"^[ \t]*+\|[ \t]*+(?=\S)", re.MULTILINE)
_ROW_END = re.compile(r"(?<=\S)[ \t]*+\|[ \t]*+$", re.MULTILINE)
_BAR = re.compile(r"(?<! )\|++[ \t]*+| \|++[ \t]*+")
_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+([^\n]*[^\n#\s])[ \t]*+#*+[ \t]*+$", re.MULTILINE)
_QUOTE = re.compile(r"^[ \t]{0,3}(?!>=?[0-9])(?:>[ \t]?)+", re.MULTILINE)
_TASK = re.compile(r"^([ \t]*(?:[-*+]|[0-9]{1,3}[.)])[ \t]+)\[[ xX]\][ \t]+", re.MULTILINE)
_BULLETS = r"-*+\u2022\u2023\u25aa\u25cf\u25e6\u2043\u2013\xb7"
_BULLET = re.compile(rf"^[ \t]*[{_BULLETS}][ \t]+(?=\S)", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*([0-9]{1,3})[.)][ \t]+(?=[^\s0-9])", re.MULTILINE)
_IMAGE = re.compile(r"!\[([^\[\]\n]{0,300}+)\]\([^()\s]{0,2000}+(?:[ \t]+\"[^\"\n]{0,200}+\")?\)")
_LINK = re.compile(
    r"\[([^\[\]\n]{1,300}+)\](?:\([^()\s]{0,2000}+(?:[ \t]+\"[^\"\n]{0,200}+\")?\)|\[[^\[\]\n]{0,100}+\])"
)
_FOOTNOTE = re.compile(r"\[\^?[1-9][0-9]{0,2}\](?!\()")
FOOTNOTES_KIND = "footnote marks"
_CODE_SPAN = re.compile(r"(?<!`)(`{1,2})([^`\n]{1,300}+)\1(?!`)")
_STRONG = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]{1,500}+)(?<!\s)\1(?![\w*])")
_INNER_STRONG = re.compile(r"\*\*(?=[^\s*])([^*\n]{1,500}+)(?<!\s)\*\*")
_UNDERLINED = re.compile(r"(?<![\w_])(_{1,3})(?=[^\s_])((?:[^_\n]|(?<=\w)_(?=\w)){1,500}+)(?<![\s_])\1(?![\w_])")
_STRUCK = re.compile(r"~~(?=\S)([^~\n]{1,500}+)(?<!\s)~~")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!|>~\"'$&])")
ITEM = "\ue000"
"""Marks the beginning of a line that stands for itself: a list item, a heading, a row. Private, and gone at the end."""
_OWN_MARK = re.compile(ITEM)


_UNSTOPPED_ITEM = re.compile(
    rf"^({ITEM}[^\n]*)(?<![.!?:;,\u3002\uff01\uff1f{ITEM}\s])(?<![.!?][\"')*_])[ \t]*$", re.MULTILINE
)


def without_markup(tracked: Tracked, dropped: Counter[str]) -> Tracked:
    """The text without markup. List items, headings and rows end with a full stop. `dropped` counts footnote marks."""
    if ITEM in tracked.characters:
        tracked = tracked.sub(_OWN_MARK, " ")
    # Twice: text that was escaped once too often is common ("&amp;nbsp;", "&lt;b&gt;").
    for _ in range(2):
        tracked = applied(_without_tags(tracked), _ENTITIES)
    tracked = _without_footnotes(_without_spans(_without_blocks(tracked)), dropped)
    return tracked.unwrapped(_UNSTOPPED_ITEM, after=".").sub(_OWN_MARK, "") if ITEM in tracked.characters else tracked


def _without_tags(tracked: Tracked) -> Tracked:
    if "<" not in tracked.characters:
        return tracked
    return applied(tracked, _TAGS).unwrapped(_ADDRESS)


def _without_blocks(tracked: Tracked) -> Tracked:
    tracked = applied(tracked, _BLOCKS)
    return tracked.unwrapped(_HEADING, before=f"\n{ITEM}", after="\n") if "#" in tracked.characters else tracked


def _without_spans(tracked: Tracked) -> Tracked:
    for sign, pattern, group in _SPANS:
        if sign in tracked.characters:
            tracked = tracked.unwrapped(pattern, group)
    return tracked


def _without_footnotes(tracked: Tracked, dropped: Counter[str]) -> Tracked:
    if "[" not in tracked.characters:
        return tracked
    dropped[FOOTNOTES_KIND] += len(_FOOTNOTE.findall(tracked.text))
    return tracked.sub(_FOOTNOTE, "")


_TAGS = (
    rule(_COMMENT, " "),
    rule(_BREAK_TAG, "\n"),
    rule(_ITEM_TAG, f"\n{ITEM}"),
    rule(_BLOCK_TAG, "\n\n"),
    rule(_CELL_TAG, ", "),
    rule(_TAG, ""),
)
_ENTITIES = (rule(_ENTITY, lambda match: html.unescape(match[0]).replace("\xa0", " "), "&"),)
_BLOCKS = (
    rule(_FENCE, "\n", "[`~]"),
    rule(_TABLE_RULE, "", hint="--"),
    rule(_RULE, "\n", hint=r"[-*_=][ \t]*[-*_=]"),
    rule(_QUOTE, "", ">"),
    rule(_TASK, lambda match: match[1], r"\["),
    rule(_BULLET, ITEM, rf"[{_BULLETS}]"),
    rule(_NUMBERED, lambda match: f"{ITEM}{match[1]}, ", "[0-9]"),
    rule(_ROW_END, "", r"\|"),
    rule(_ROW_START, ITEM, r"\|"),
    rule(_BAR, ", ", r"\|"),
)
_SPANS = (
    ("[", _IMAGE, 1),
    ("[", _LINK, 1),
    ("`", _CODE_SPAN, 2),
    ("*", _STRONG, 2),
    ("*", _STRONG, 2),
    ("*", _INNER_STRONG, 1),
    ("_", _UNDERLINED, 2),
    ("~", _STRUCK, 1),
    ("\\", _ESCAPE, 1),
)
