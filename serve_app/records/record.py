"""A record of one answer: enough to hear it again without the generator, and to make it again with one."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from serve_app.messages import FRAME_RATE_HZ, Codes, ContextSegment


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an utterance was gone on with: after a runaway, or on another replica."""

    frame: int
    """Of the part, from 0."""
    attempt: int
    """The draw that made the frames from here on. Above 0: drawn again after a runaway."""
    num_lost: int
    """Replicas lost before these frames."""


@dataclass(frozen=True, slots=True)
class RecordedPart:
    """One utterance of the answer, and the pause that follows it. Frames last 80 ms."""

    number: int
    turn: int
    speaker: int
    text: str
    num_words: int
    start: int
    end: int
    ends_with: int
    seed: int
    """All of these as `messages.Utterance` has them."""
    first_frame: int
    """In the answer."""
    num_frames: int = 0
    pause_frames: int = 0
    resumes: tuple[Resume, ...] = ()
    temperature: float | None = None
    """As it was drawn with. None in records of before it was noted: the answer's."""

    @property
    def end_frame(self) -> int:
        """Where the speech ends and the pause begins."""
        return self.first_frame + self.num_frames

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{**value, "resumes": tuple(Resume(**resume) for resume in value["resumes"])})


@dataclass(frozen=True, slots=True)
class Rest:
    """What an answer that broke off has still to speak: typed text behind its last part."""

    text: str
    is_complete: bool
    """Whether no more text comes."""


@dataclass(frozen=True, slots=True)
class Record:
    """`codes` are those of all parts, one after the other. Pauses have none."""

    request_id: str
    created_at: float
    seed: int
    finish_reason: str | None
    """None: the answer broke off, and can be gone on with."""
    model: Mapping[str, Any]
    """The fields of `ModelInfo`."""
    scene: Mapping[str, Any]
    """`turns`, `sampling` and `max_audio_seconds`, as `Scene.to_json` has them, and the hash of each of `adapters`."""
    context: tuple[ContextSegment, ...]
    """What the first part was conditioned on."""
    num_given: int
    """The first of these, which every part was conditioned on."""
    parts: tuple[RecordedPart, ...]
    codes: Codes
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What made it another record than a plain answer's: the turn that was regenerated, and from which record."""
    rest: Rest | None = None
    """None: it has ended, or nobody may go on with it."""

    @property
    def num_frames(self) -> int:
        """Pauses included."""
        return max((part.end_frame + part.pause_frames for part in self.parts), default=0)

    @property
    def audio_seconds(self) -> float:
        return self.num_frames / FRAME_RATE_HZ

    @property
    def context_hash(self) -> str:
        """SHA-256 of what the answer was conditioned on: each segment's speaker, text and codes."""
        return hash_of_context(self.context)

    @property
    def codes_hash(self) -> str:
        return hashlib.sha256(self.codes.data).hexdigest()

    def codes_of(self, number: int) -> Codes:
        """Those of part `number`."""
        frame_bytes = 2 * self.codes.num_codebooks
        start = sum(part.num_frames for part in self.parts[:number])
        end = start + self.parts[number].num_frames
        return replace(self.codes, data=self.codes.data[start * frame_bytes : end * frame_bytes])

    def segments(self, parts: Iterable[int] | None = None) -> tuple[ContextSegment, ...]:
        """These parts (all of them) as context for what follows."""
        numbers = range(len(self.parts)) if parts is None else parts
        return tuple(
            ContextSegment(self.parts[number].text, self.parts[number].speaker, self.codes_of(number))
            for number in numbers
            if self.parts[number].num_frames
        )

    def description(self) -> dict[str, Any]:
        """All but the codes, as JSON."""
        return {
            "request_id": self.request_id,
            "created_at": self.created_at,
            "seed": self.seed,
            "finish_reason": self.finish_reason,
            "model": dict(self.model),
            "scene": dict(self.scene),
            "num_given": self.num_given,
            "context": [described(segment) for segment in self.context],
            "parts": [asdict(part) for part in self.parts],
            "num_codebooks": self.codes.num_codebooks,
            "notes": dict(self.notes),
            "rest": None if self.rest is None else asdict(self.rest),
        }

    @property
    def all_codes(self) -> bytes:
        return b"".join(segment.codes.data for segment in self.context) + self.codes.data

    @classmethod
    def of(cls, value: Mapping[str, Any], data: bytes) -> Self:
        """From `description` and `all_codes`."""
        values = dict(value)
        size = values.pop("num_codebooks")
        context, spoken = segments_of(values.pop("context"), data, size)
        parts = tuple(map(RecordedPart.from_json, values.pop("parts")))
        rest = values.pop("rest", None)
        return cls(
            context=context,
            parts=parts,
            codes=Codes(spoken, size),
            rest=None if rest is None else Rest(**rest),
            **values,
        )


def described(segment: ContextSegment) -> dict[str, Any]:
    """A segment without its codes."""
    return {
        "text": segment.text,
        "speaker": segment.speaker,
        "anchor": segment.anchor,
        "frames": segment.codes.num_frames,
    }


def segments_of(
    values: Sequence[Mapping[str, Any]], data: bytes, num_codebooks: int
) -> tuple[tuple[ContextSegment, ...], bytes]:
    """The segments that `described` wrote, whose codes `data` begins with, and the rest of `data`."""
    segments: list[ContextSegment] = []
    for value in values:
        size = 2 * num_codebooks * value["frames"]
        codes = Codes(data[:size], num_codebooks)
        segments.append(ContextSegment(value["text"], value["speaker"], codes, value["anchor"]))
        data = data[size:]
    return tuple(segments), data


def hash_of_context(segments: Iterable[ContextSegment]) -> str:
    digest = hashlib.sha256()
    for segment in segments:
        head = f"{segment.speaker}/{len(segment.text.encode())}/{segment.codes.num_frames}/{segment.text}"
        digest.update(head.encode("utf-8", "surrogatepass") + segment.codes.data)
    return digest.hexdigest()
