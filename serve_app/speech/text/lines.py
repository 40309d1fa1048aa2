"""Line breaks become pauses: a blank line ends a paragraph, a short line ends with a comma, a wrapped line goes on."""

import re

from serve_app.speech.text.tracked import Tracked

PARAGRAPH = "\n"

_MAX_SHORT_LINE_CHARS = 60
_RUNS = re.compile(r"[ \t]{2,}+|\t")
_AROUND = re.compile(r"(?<![ \t])[ \t]*+\n[ \t]*+")
_BLANK = re.compile(r"\n{2,}+")
_BREAK_BEFORE_A_CAPITAL = re.compile(r"(?<=[\w%)\"'])(?<![.!?][\"')])\n(?=[A-Z0-9\"'(])")
_BREAK = re.compile(r"\n")
_UNSTOPPED = re.compile(r"(?<=[\w%)\"'])(?<![.!?][\"')])(?=\x00)")
_BETWEEN = re.compile(r"\x00")
_EDGES = re.compile(r"\A\s++|\s++\Z")


def paragraphs(tracked: Tracked) -> Tracked:
    """The text with one line for each paragraph, no space at its ends, single spaces inside."""
    for pattern, new in (
        (_AROUND, "\n"),
        (_EDGES, ""),
        (_RUNS, " "),
        (_BLANK, "\x00"),
        (_BREAK_BEFORE_A_CAPITAL, _pause_after_a_short_line),
        (_BREAK, " "),
        (_UNSTOPPED, "."),
        (_BETWEEN, PARAGRAPH),
    ):
        tracked = tracked.sub(pattern, new)
    return tracked


def _pause_after_a_short_line(match: re.Match[str]) -> str:
    """A long line was wrapped by an editor; a short one (verse, address, list) was ended by its writer."""
    before = match.string[max(0, match.start() - _MAX_SHORT_LINE_CHARS) : match.start()]
    short = match.start() <= _MAX_SHORT_LINE_CHARS or "\n" in before or "\x00" in before
    return ", " if short else " "
