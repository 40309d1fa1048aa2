"""Line breaks become pauses: a blank line ends a paragraph, a short line ends with a comma, a wrapped line goes on."""

import re

from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tracked import Tracked

PARAGRAPH = "\n"

_MAX_SHORT_LINE_CHARS = 60


def paragraphs(tracked: Tracked) -> Tracked:
    """The text with one line for each paragraph, no space at its ends, single spaces inside."""
    return applied(applied(tracked, _AROUND_BREAKS).stripped(), _BREAKS)


def _pause_after_a_short_line(match: re.Match[str]) -> str:
    """A long line was wrapped by an editor; a short one (verse, address, list) was ended by its writer."""
    before = match.string[max(0, match.start() - _MAX_SHORT_LINE_CHARS) : match.start()]
    short = match.start() <= _MAX_SHORT_LINE_CHARS or "\n" in before or "\x00" in before
    return ", " if short else " "


_AROUND_BREAKS = (rule(r"(?<![ \t])[ \t]*+\n[ \t]*+", "\n", "\n"),)
_BREAKS = (
    rule(r"[ \t]{2,}+|\t", " ", hint=r" [ \t]|\t"),
    rule(r"\n{2,}+", "\x00", "\n"),
    rule(r"(?<=[\w%)\"'])(?<![.!?][\"')])\n(?=[A-Z0-9\"'(])", _pause_after_a_short_line, "\n"),
    rule(r"\n", " ", "\n"),
    rule(r"(?<=[\w%)\"'])(?<![.!?][\"')])(?=\x00)", ".", "\x00"),
    rule(r"\x00", PARAGRAPH, "\x00"),
)
