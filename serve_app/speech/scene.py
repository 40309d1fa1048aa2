"""A scene: the only kind of request. A single text is a scene of one turn."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from serve_app.messages import FRAME_RATE_HZ, Draw, SamplingParams
from serve_app.speech.text.duration import frame_cap
from serve_app.speech.text.splitting import Break, Piece
from serve_app.speech.text.word_count import spoken_words


@dataclass(frozen=True, slots=True)
class Turn:
    """A text to speak, as the caller typed it, and its speaker."""

    text: str
    speaker: int
    prepared: tuple[Piece, ...] = ()
    """The text as it will be spoken, in pieces. Empty if the typed text is spoken as one piece."""
    voice: str | None = None
    """Id or name of a kept voice, as the caller sent it. `Casting` turns it into the scene's `voices`."""
    adapter: str | None = None
    """Name of the adapter that speaks it: the request's, or else that of the speaker's kept voice."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        whole = Piece(self.text, spoken_words(self.text), 0, len(self.text), Break.PARAGRAPH)
        return self.prepared or (whole,)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        pieces = tuple(map(_piece, value.get("prepared", ())))
        return cls(value["text"], value["speaker"], pieces, value.get("voice"), value.get("adapter"))


def _piece(value: Mapping[str, Any]) -> Piece:
    return Piece(**{**value, "ends_with": Break(value["ends_with"])})


@dataclass(frozen=True, slots=True)
class InlineAudio:
    """The bytes of an audio file that came inside the request."""

    data: bytes


@dataclass(frozen=True, slots=True)
class UrlAudio:
    """An audio file at a URL that the caller named."""

    url: str


@dataclass(frozen=True, slots=True)
class FileAudio:
    """A file that this server stores."""

    file_id: str


Audio = InlineAudio | UrlAudio | FileAudio


@dataclass(frozen=True, slots=True)
class ContextSource:
    """A passage that was spoken before: its transcript, and where its audio is."""

    text: str
    speaker: int
    audio: Audio

    def to_json(self) -> dict[str, Any]:
        assert not isinstance(self.audio, InlineAudio), "inline audio is stored as a file first"
        audio = {"url": self.audio.url} if isinstance(self.audio, UrlAudio) else {"file": self.audio.file_id}
        return {"text": self.text, "speaker": self.speaker, "audio": audio}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        audio = value["audio"]
        source = UrlAudio(audio["url"]) if "url" in audio else FileAudio(audio["file"])
        return cls(value["text"], value["speaker"], source)


@dataclass(frozen=True, slots=True)
class CastVoice:
    """A speaker's kept voice."""

    speaker: int
    voice_id: str


GOOD_ENOUGH = 0.9


@dataclass(frozen=True, slots=True)
class Quality:
    """Asks for several takes of each utterance, of which the best is kept."""

    candidates: int
    """The most takes."""
    good_enough: float = GOOD_ENOUGH
    """The score, up to 1, at which no further take is drawn."""
    spread: float = 1.0
    """Times the temperature of the take before. Above 1, takes differ where a model says the same in every draw."""


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """Asks for the answer to be stored as a file."""

    url_base: str
    """The file's URL is this, followed by its path."""
    format: str = "wav"
    kept_seconds: float | None = None
    """None keeps it for the server's default time."""
    sample_rate_hz: int | None = None
    """None is the format's own."""
    speed: float = 1.0
    """As in `Coding`."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A checked request, the same for every dialect.

    It depends on the request's content alone, so a request that is sent again gives an equal scene.
    `sampling.seed` and `sampling.max_frames` are not read: `seed`, the texts and `max_audio_seconds` decide.
    """

    turns: tuple[Turn, ...]
    context: tuple[ContextSource, ...]
    seed: int | None
    """None lets the server choose one."""
    sampling: SamplingParams
    max_audio_seconds: float
    """Of the whole answer."""
    file: AnswerFile | None = None
    notices: tuple[str, ...] = ()
    """Parts of the texts that are not spoken, by kind. They never quote a text."""
    remarks: tuple[str, ...] = ()
    """Differences from the request as it was sent: unknown fields, values lowered to a limit."""
    voices: tuple[CastVoice, ...] = ()
    quality: Quality | None = None
    part_draws: Mapping[int, Draw] = field(default_factory=dict)
    """Draws of utterances by their number, where an answer is made again whose takes were chosen."""

    @property
    def longest_seconds(self) -> float:
        """An upper bound of the audio that is made, takes that are not kept included."""
        frames = sum(frame_cap(piece.num_words) for turn in self.turns for piece in turn.pieces)
        takes = self.quality.candidates if self.quality else 1
        return takes * min(self.max_audio_seconds, frames / FRAME_RATE_HZ)

    def with_context(self, context: tuple[ContextSource, ...]) -> Self:
        return replace(self, context=context)

    def to_json(self) -> dict[str, Any]:
        """For a job's row, once `ContextAudio.keep` has stored the inline audio."""
        return {
            "turns": [asdict(turn) for turn in self.turns],
            "context": [item.to_json() for item in self.context],
            "seed": self.seed,
            "sampling": asdict(self.sampling),
            "max_audio_seconds": self.max_audio_seconds,
            "file": asdict(self.file) if self.file else None,
            "notices": list(self.notices),
            "remarks": list(self.remarks),
            "voices": [asdict(cast) for cast in self.voices],
            "quality": asdict(self.quality) if self.quality else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            turns=tuple(Turn.from_json(turn) for turn in value["turns"]),
            context=tuple(ContextSource.from_json(item) for item in value["context"]),
            seed=value["seed"],
            sampling=SamplingParams(**value["sampling"]),
            max_audio_seconds=value["max_audio_seconds"],
            file=AnswerFile(**value["file"]) if value["file"] else None,
            notices=tuple(value.get("notices", ())),
            remarks=tuple(value.get("remarks", ())),
            voices=tuple(CastVoice(**cast) for cast in value.get("voices", ())),
            quality=Quality(**value["quality"]) if value.get("quality") else None,
        )
