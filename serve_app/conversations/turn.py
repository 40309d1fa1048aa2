"""A turn of a conversation: what was said, and as much of it as was heard."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from serve_app.messages import FRAME_RATE_HZ, Codes, ContextSegment

Kind = Literal["spoken", "heard"]


@dataclass(frozen=True, slots=True)
class Passage:
    """An utterance within a turn. Frames last 80 ms; `first_frame` counts from the turn's beginning, with pauses."""

    text: str
    first_frame: int
    num_frames: int


@dataclass(frozen=True, slots=True)
class Turn:
    """`spoken` turns were generated, `heard` ones came as a recording. `codes` are those of all passages."""

    kind: Kind
    speaker: int
    text: str
    """As it was typed, or the recording's transcript."""
    passages: tuple[Passage, ...]
    codes: Codes
    request_id: str = ""
    prompt_positions: int = 0
    """Positions of the prompt that this turn was generated from, as the engine counted them."""
    played_frames: int | None = None
    """Where the listener interrupted. None: everything was heard."""

    @property
    def num_frames(self) -> int:
        return self.codes.num_frames

    @property
    def heard_text(self) -> str:
        """What the model believes was said."""
        return self.text if self.played_frames is None else " ".join(passage.text for passage in self.passages)

    def segments(self) -> tuple[ContextSegment, ...]:
        """The turn as context."""
        frame_bytes, start = 2 * self.codes.num_codebooks, 0
        segments: list[ContextSegment] = []
        for passage in self.passages:
            end = start + passage.num_frames * frame_bytes
            codes = replace(self.codes, data=self.codes.data[start:end])
            segments.append(ContextSegment(passage.text, self.speaker, codes))
            start = end
        return tuple(segments)

    def cut(self, played_ms: float) -> Self:
        """The turn as it was heard by a listener who interrupted after `played_ms`.

        It ends with the last 80 ms frame that had begun to play. Of a passage that was cut, so many words stay as were
        spoken, if all words take the same time. A turn is never made longer again.
        """
        played = math.ceil(played_ms * FRAME_RATE_HZ / 1000 - 1e-9)
        passages: list[Passage] = []
        data, start, frame_bytes = b"", 0, 2 * self.codes.num_codebooks
        for passage in self.passages:
            heard = min(max(played - passage.first_frame, 0), passage.num_frames)
            text = _beginning(passage.text, heard / passage.num_frames)
            if heard and text:
                passages.append(replace(passage, text=text, num_frames=heard))
                data += self.codes.data[start : start + heard * frame_bytes]
            start += passage.num_frames * frame_bytes
        if self.played_frames is not None:
            played = min(played, self.played_frames)
        return replace(self, passages=tuple(passages), codes=replace(self.codes, data=data), played_frames=played)

    def description(self) -> dict[str, Any]:
        """All but the codes, as JSON."""
        return {
            "kind": self.kind,
            "speaker": self.speaker,
            "text": self.text,
            "passages": [asdict(passage) for passage in self.passages],
            "request_id": self.request_id,
            "prompt_positions": self.prompt_positions,
            "played_frames": self.played_frames,
        }

    @classmethod
    def of(cls, value: Mapping[str, Any], data: bytes, num_codebooks: int) -> Self:
        """From `description` and the codes' bytes."""
        passages = tuple(Passage(**passage) for passage in value["passages"])
        return cls(**{**value, "passages": passages}, codes=Codes(data, num_codebooks))


def _beginning(text: str, share: float) -> str:
    words = text.split()
    return text if share >= 1 else " ".join(words[: round(len(words) * share)])
