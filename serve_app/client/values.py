"""What goes into the client and what comes out of it."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict


@dataclass(frozen=True, slots=True)
class Turn:
    """A text and its speaker."""

    text: str
    speaker: int = 0
    voice: str | None = None
    """Id or name of a voice that the server keeps for this key."""

    def to_json(self) -> dict[str, Any]:
        voice = {} if self.voice is None else {"voice": self.voice}
        return {"text": self.text, "speaker": self.speaker} | voice


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording that was heard before: it gives its speaker a voice. `audio`: a file, or its bytes."""

    audio: Path | str | bytes
    text: str
    """The words spoken in it."""
    speaker: int = 0

    def to_json(self) -> dict[str, Any]:
        """Raises OSError if the file cannot be read."""
        data = self.audio if isinstance(self.audio, bytes) else Path(self.audio).read_bytes()
        return {"audio": base64.b64encode(data).decode(), "text": self.text, "speaker": self.speaker}


class SpeechOptions(TypedDict, total=False):
    """Fields of `POST /generate` that need no words of their own. What is left out takes the server's default."""

    voice: str
    format: str
    sample_rate: int
    seed: int
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    greedy: bool
    normalize: bool
    max_audio_seconds: float
    adapter: str
    quality: dict[str, Any]
    """Of jobs: `{"candidates": 4}` draws up to four takes of each utterance, and the best is kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. `finish_reason` is None while it runs."""

    request_id: str
    seed: int
    finish_reason: str | None
    audio_seconds: float
    characters_spoken: int
    turn_starts: tuple[float, ...] = ()
    """The second at which each turn begins, of those that have begun."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A whole answer."""

    audio: bytes = field(repr=False)
    content_type: str
    outcome: Outcome
    notices: tuple[str, ...] = ()
    """What the server says of the request or the text, in words."""

    def save(self, path: Path | str) -> None:
        Path(path).write_bytes(self.audio)


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of the server."""

    id: str
    name: str
    speaker: int | None = None


@dataclass(frozen=True, slots=True)
class JobLog:
    at: float
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A queued scene. Times are unix seconds."""

    id: str
    state: str
    """`queued`, `running`, `completed`, `failed` or `cancelled`."""
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int = 0
    position: int | None = None
    """Jobs ahead of a queued one."""
    error: str | None = None
    error_kind: str | None = None
    audio_url: str | None = None
    audio_seconds: float | None = None
    seed: int | None = None
    quality: dict[str, Any] | None = None
    """Scores of its takes, if several were asked for."""
    logs: tuple[JobLog, ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.state in ("completed", "failed", "cancelled")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Job":
        known: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["logs"] = tuple(JobLog(**line) for line in values.get("logs", ()))
        return cls(**known)
