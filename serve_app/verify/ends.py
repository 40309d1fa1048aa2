"""The check of ends: how many utterances end by themselves, and what the rescue made of the others."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from serve_app.speech.rescue import PieceEnd
from serve_app.verify.check import ENDS, Check, judged
from serve_app.verify.listening import Heard

_MIN_SHARE = 0.5
"""CSM's own is about five in six."""


@dataclass(frozen=True, slots=True)
class SpeakersEnds:
    """How the utterances of a speaker ended."""

    speaker: int
    ends: Counter[PieceEnd]
    redraws: int

    @property
    def total(self) -> int:
        return self.ends.total()

    @property
    def share(self) -> float:
        """Of those that ended by themselves."""
        return self.ends[PieceEnd.ITSELF] / self.total

    def __str__(self) -> str:
        said = f"{self.ends[PieceEnd.ITSELF]} of {self.total} utterances end by themselves ({self.share:.0%})"
        if self.total == self.ends[PieceEnd.ITSELF]:
            return said
        others = {end: count for end, count in self.ends.items() if end is not PieceEnd.ITSELF}
        made = ", ".join(f"{count} {_WORDS[end]}" for end, count in sorted(others.items()))
        return f"{said}; of the others {made}; drawn again {self.redraws} times"


_WORDS = {
    PieceEnd.RESCUED: "rescued",
    PieceEnd.CUT: "cut at their last good frame",
    PieceEnd.LIMIT: "stopped at the limit",
    PieceEnd.BROKEN: "broken off",
}


def ends_by_speaker(heard: Sequence[Heard]) -> list[SpeakersEnds]:
    by_speaker = groupby(sorted(heard, key=lambda one: one.speaker), key=lambda one: one.speaker)
    return [_ends(speaker, list(utterances)) for speaker, utterances in by_speaker]


def check_ends(heard: Sequence[Heard]) -> Check:
    found = ends_by_speaker(heard)
    values = {
        "speakers": [
            {
                "speaker": one.speaker,
                "utterances": one.total,
                "share_ended_by_itself": round(one.share, 4),
                "ends": {end.value: one.ends[end] for end in PieceEnd},
                "redraws": one.redraws,
            }
            for one in found
        ]
    }
    return judged(ENDS, _reasons(found), [(f"speaker {one.speaker}", str(one)) for one in found], values)


def _ends(speaker: int, heard: Sequence[Heard]) -> SpeakersEnds:
    return SpeakersEnds(speaker, Counter(one.end for one in heard), sum(one.redraws for one in heard))


def _reasons(found: Sequence[SpeakersEnds]) -> Iterator[str]:
    for one in found:
        if one.share < _MIN_SHARE:
            yield (
                f"speaker {one.speaker}: only {one.ends[PieceEnd.ITSELF]} of {one.total} utterances end by themselves; "
                "were clips cut before their end in training?"
            )
