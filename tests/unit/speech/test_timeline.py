"""Turns in frames and seconds, and as subtitles."""

from dataclasses import replace

from serve_app.speech.timeline import srt, timed_parts, timed_turns, vtt
from tests.unit.records.test_records import PART, RECORD

TWO_PIECES = replace(
    RECORD,
    scene={"turns": [{"text": "Hello! You there?", "speaker": 0}]},
    parts=(
        replace(PART, pause_frames=2),
        replace(PART, text="you there", start=6, end=17, first_frame=5, num_frames=2),
    ),
)


def test_a_turn_lasts_from_its_first_part_to_its_last_and_its_pauses_are_inside() -> None:
    (turn,) = timed_turns(TWO_PIECES)
    assert (turn.first_frame, turn.end_frame, turn.text) == (0, 7, "Hello! You there?")
    assert (turn.start_seconds, turn.end_seconds) == (0.0, 7 * 0.08)


def test_a_part_shows_what_was_typed() -> None:
    assert [(part.text, part.first_frame, part.end_frame) for part in timed_parts(TWO_PIECES)] == [
        ("Hello!", 0, 3),
        ("You there?", 5, 7),
    ]


def test_subtitles() -> None:
    lines = timed_turns(RECORD)
    assert srt(lines) == ("1\n00:00:00,000 --> 00:00:00,240\nHello!\n\n2\n00:00:00,320 --> 00:00:00,480\nThere.\n")
    assert vtt(lines).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.240\n<v Speaker 0>Hello!\n")


def test_a_text_cannot_break_out_of_its_cue() -> None:
    line = replace(timed_turns(RECORD)[0], text="a\n\n2\n00:00 --> 00:01 <b>")
    assert vtt([line]).count("-->") == 1
    assert "&lt;b&gt;" in vtt([line])
    assert len(srt([line]).strip().splitlines()) == 3
