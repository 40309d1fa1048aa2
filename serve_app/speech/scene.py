"""A scene as it was asked for: its context audio is still to be had, and its answer becomes a file."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from serve_app.messages import SamplingParams
from serve_app.speech.request import Turn

_LARGEST_EXACT = 2**53 - 1
"""Of JavaScript's numbers: callers must be able to send a seed back as they read it."""


@dataclass(frozen=True, slots=True)
class InlineAudio:
    """The bytes of a file that came inside the request."""

    data: bytes


@dataclass(frozen=True, slots=True)
class UrlAudio:
    """Somewhere on the net, named by the caller."""

    url: str


@dataclass(frozen=True, slots=True)
class FileAudio:
    """One of the files that this server keeps."""

    file_id: str


@dataclass(frozen=True, slots=True)
class ContextSource:
    """A passage that was spoken before: its words, and where its sound is."""

    text: str
    speaker: int
    audio: InlineAudio | UrlAudio | FileAudio

    def to_json(self) -> dict[str, Any]:
        assert not isinstance(self.audio, InlineAudio), "inline audio is stored as a file first"
        audio = {"url": self.audio.url} if isinstance(self.audio, UrlAudio) else {"file": self.audio.file_id}
        return {"text": self.text, "speaker": self.speaker, "audio": audio}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        audio = value["audio"]
        return cls(
            value["text"], value["speaker"], UrlAudio(audio["url"]) if "url" in audio else FileAudio(audio["file"])
        )


@dataclass(frozen=True, slots=True)
class SceneFile:
    """What the answer's file is to be."""

    url_base: str
    """Its address is this, its path behind."""
    format: str = "wav"
    kept_seconds: float | None = None
    """None is as long as the server keeps files by default."""


@dataclass(frozen=True, slots=True)
class SceneInput:
    """All that is needed to make the answer, now or after a restart; a function of what was asked for alone, so that
    a request that is sent again is seen to be the same. `sampling.seed` is not read."""

    turns: tuple[Turn, ...]
    context: tuple[ContextSource, ...]
    seed: int | None
    """None is one that follows from the request's id."""
    sampling: SamplingParams
    max_audio_seconds: float
    file: SceneFile

    def seed_for(self, request_id: str) -> int:
        """Another one for each request, and the same one again when a request is run again."""
        if self.seed is not None:
            return self.seed
        return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "little") & _LARGEST_EXACT

    def with_context(self, context: tuple[ContextSource, ...]) -> Self:
        return replace(self, context=context)

    def to_json(self) -> dict[str, Any]:
        """For a job's row. Inline audio does not belong there: see `scene_work.SceneWork.keep_inputs`."""
        return {
            "turns": [asdict(turn) for turn in self.turns],
            "context": [item.to_json() for item in self.context],
            "seed": self.seed,
            "sampling": asdict(self.sampling),
            "max_audio_seconds": self.max_audio_seconds,
            "file": asdict(self.file),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            turns=tuple(Turn(**turn) for turn in value["turns"]),
            context=tuple(ContextSource.from_json(item) for item in value["context"]),
            seed=value["seed"],
            sampling=SamplingParams(**value["sampling"]),
            max_audio_seconds=value["max_audio_seconds"],
            file=SceneFile(**value["file"]),
        )
