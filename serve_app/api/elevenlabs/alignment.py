"""When each character is said, as both kinds of answers have it."""

from dataclasses import dataclass, field

from serve_app.align.characters import Edges
from serve_app.messages import FRAME_RATE_HZ, SpokenPart


@dataclass(slots=True)
class Aligned:
    """Characters with their start and end, in seconds."""

    chars: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def add(self, text: str, edges: Edges) -> None:
        self.chars += text
        self.starts += edges[:-1].tolist()
        self.ends += edges[1:].tolist()

    def in_seconds(self) -> dict[str, list[str] | list[float]]:
        """As answers over HTTP have it."""
        return {
            "characters": self.chars,
            "character_start_times_seconds": [round(start, 3) for start in self.starts],
            "character_end_times_seconds": [round(end, 3) for end in self.ends],
        }

    def in_milliseconds(self) -> dict[str, list[str] | list[int]]:
        """As sockets have it. The durations add up: clients sum them."""
        starts, ends = ([round(1000 * at) for at in times] for times in (self.starts, self.ends))
        durations = [end - start for start, end in zip(starts, ends, strict=True)]
        return {"chars": self.chars, "charStartTimesMs": starts, "charDurationsMs": durations}


def seconds_of(part: SpokenPart, speed: float) -> tuple[float, float]:
    """Start and end of a part in the answer that is heard at `speed`."""
    return part.first_frame / FRAME_RATE_HZ / speed, part.end_frame / FRAME_RATE_HZ / speed
