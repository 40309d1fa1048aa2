"""Scenes as text files, and subtitles of what was heard."""

import pytest

from serve_app.cli.scripts import read_script, subtitles
from serve_app.client import Turn
from serve_app.errors import StartupError


@pytest.mark.parametrize(
    ("script", "turns"),
    [
        ("Ann: Hello.\nBen: Hi.\nAnn: Bye.", [("Hello.", 0), ("Hi.", 1), ("Bye.", 0)]),
        ("0: One.\n\n7: Two.", [("One.", 0), ("Two.", 7)]),
        ("Ann: One.\n0: Two.", [("One.", 1), ("Two.", 0)]),
        ("Just a text\nof two lines.", [("Just a text of two lines.", 0)]),
        ("Ann: It is late,\n10:30 is late.", [("It is late, 10:30 is late.", 0)]),
        ("Dr. Who: a < b; @home & co.", [("a < b; @home & co.", 0)]),
    ],
    ids=["names", "numbers", "both", "no speaker", "a clock", "signs"],
)
def test_each_line_is_a_turn(script: str, turns: list[tuple[str, int]]) -> None:
    found, names = read_script(script)
    assert [(turn.text, turn.speaker) for turn in found] == turns
    assert set(names) == {speaker for _, speaker in turns}


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(StartupError, match="the script is empty"):
        read_script("\n \n")


def test_subtitles_show_each_turn_from_its_first_sound_to_the_next() -> None:
    turns = [Turn("Hello.", 0), Turn("Hi.", 1), Turn("Never reached.", 0)]
    assert subtitles(turns, {0: "Ann", 1: "Ben"}, (0.0, 3661.0804), 3662) == (
        "1\n00:00:00,000 --> 01:01:01,080\nAnn: Hello.\n\n2\n01:01:01,080 --> 01:01:02,000\nBen: Hi.\n"
    )
