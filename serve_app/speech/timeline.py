"""When what was said in a recorded answer: turns in frames and seconds, and subtitles."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from serve_app.messages import FRAME_RATE_HZ
from serve_app.records.record import Record, RecordedPart


@dataclass(frozen=True, slots=True)
class TimedText:
    """Typed text and when it is spoken. Exact, but for the silence that a speaker leaves at either end."""

    turn: int
    speaker: int
    text: str
    first_frame: int
    end_frame: int

    @property
    def start_seconds(self) -> float:
        return self.first_frame / FRAME_RATE_HZ

    @property
    def end_seconds(self) -> float:
        return self.end_frame / FRAME_RATE_HZ


@dataclass(frozen=True, slots=True)
class TimedWord:
    turn: int
    speaker: int
    text: str
    start_seconds: float
    end_seconds: float
    is_estimated: bool
    """Whether the word was not found in the sound, and was placed by its length alone."""


def timed_parts(record: Record) -> list[TimedText]:
    """Each part that was spoken, with the characters as they were typed."""
    texts = [turn["text"] for turn in record.scene["turns"]]
    return [
        TimedText(part.turn, part.speaker, _typed(texts[part.turn], part), part.first_frame, end)
        for part in record.parts
        if (end := part.end_frame) > part.first_frame
    ]


def timed_turns(record: Record) -> list[TimedText]:
    """Each turn that was spoken, from the first frame of its first part to the last of its last."""
    texts = [turn["text"] for turn in record.scene["turns"]]
    turns: list[TimedText] = []
    for turn, parts in groupby(timed_parts(record), key=lambda part: part.turn):
        first, *_, last = [*parts] * 2
        turns.append(TimedText(turn, first.speaker, texts[turn], first.first_frame, last.end_frame))
    return turns


def srt(lines: Sequence[TimedText | TimedWord]) -> str:
    """SubRip subtitles."""
    return "\n".join(
        f"{number}\n{_clock(line.start_seconds, ',')} --> {_clock(line.end_seconds, ',')}\n{_one_line(line.text)}\n"
        for number, line in enumerate(lines, 1)
    )


def vtt(lines: Sequence[TimedText | TimedWord]) -> str:
    """WebVTT subtitles, each with its speaker as the voice."""
    cues = (
        f"{_clock(line.start_seconds, '.')} --> {_clock(line.end_seconds, '.')}\n"
        f"<v Speaker {line.speaker}>{_escaped(_one_line(line.text))}\n"
        for line in lines
    )
    return "\n".join(["WEBVTT\n", *cues])


def _typed(text: str, part: RecordedPart) -> str:
    """What was typed; of a text that was still growing while it was spoken, what was spoken."""
    return text[part.start : part.end].strip() or part.text


def _one_line(text: str) -> str:
    """An empty line would end a cue, and an arrow would begin another."""
    return " ".join(text.split()).replace("-->", "->")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
