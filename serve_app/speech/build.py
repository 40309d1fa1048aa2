"""Checks a request that a dialect has read, and builds its scene. All dialects share these checks.

Errors carry neutral paths: `turns[0].text`, `context[2].audio`, `temperature`. Each dialect renders them in its names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.audio.encode.formats import coding_of
from serve_app.audio.payload import audio_bytes
from serve_app.errors import InvalidRequest
from serve_app.messages import ModelInfo
from serve_app.settings import LimitSettings, Settings
from serve_app.speech.knobs import max_audio_seconds_of, quality_of, sampling_of, seed_of
from serve_app.speech.scene import AnswerFile, Audio, ContextSource, InlineAudio, Quality, Scene, Turn, UrlAudio
from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.prepared import Notice, Prepared, merged
from serve_app.speech.text.readable import readable
from serve_app.speech.text.splitting import pieces

_MAX_SPEAKER = 999


@dataclass(frozen=True, slots=True)
class AskedClip:
    """`audio`: base64, a data URI, or an http(s) URL. `text`, its transcript, is "" where it was left out."""

    text: str
    speaker: int
    audio: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a dialect read it. Types are right, limits are not checked. None means left out."""

    turns: Sequence[Turn]
    context: Sequence[AskedClip] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """The fields of `SamplingParams` that the caller gave."""
    seed: int | None = None
    max_audio_seconds: float | None = None
    file: AnswerFile | None = None
    adapter: str | None = None
    """Name of an adapter of this server, for turns that name none."""
    quality: Quality | None = None
    """For a job: several takes of each utterance."""
    normalize: bool = True
    """Whether numbers, signs and abbreviations are spelled out before they are spoken."""
    is_job: bool = False
    """Whether the scene is queued. A job may be longer than a request whose caller waits."""
    remarks: Sequence[str] = ()
    """Remarks of the dialect. Those of the core follow them in the scene."""


def build_scene(asked: Asked, info: ModelInfo, settings: Settings) -> Scene:
    """The scene that `asked` describes. Raises InvalidRequest for the first field beyond a limit."""
    limits = settings.limits
    if asked.file is not None:
        coding_of(asked.file.format, asked.file.sample_rate_hz, asked.file.speed)
    scene = _scene(asked, _turns(asked, limits), info, settings)
    prepared = [
        _prepared(f"turns[{number}].text", turn, asked.normalize, info) for number, turn in enumerate(scene.turns)
    ]
    notices = merged(*(notices for _, notices in prepared))
    return replace(scene, turns=tuple(turn for turn, _ in prepared), notices=tuple(map(str, notices)))


def build_live_scene(asked: Asked, info: ModelInfo, settings: Settings) -> Scene:
    """As `build_scene`, for one turn whose text is still to come."""
    (turn,) = asked.turns
    speaker = _speaker("turns[0].speaker", turn.speaker)
    return _scene(asked, (Turn("", speaker, voice=turn.voice, adapter=asked.adapter or None),), info, settings)


def _scene(asked: Asked, turns: tuple[Turn, ...], info: ModelInfo, settings: Settings) -> Scene:
    limits = settings.limits
    context = context_of(asked.context, limits)
    sampling, sampling_remarks = sampling_of(asked.sampling, info, settings.sampling)
    max_audio_seconds, length_remarks = max_audio_seconds_of(asked.max_audio_seconds, limits)
    return Scene(
        turns=turns,
        context=context,
        seed=seed_of(asked.seed),
        sampling=sampling,
        max_audio_seconds=max_audio_seconds,
        file=asked.file,
        quality=quality_of(asked.quality, asked.is_job, sampling, limits),
        remarks=(*asked.remarks, *sampling_remarks, *length_remarks),
    )


def _prepared(path: str, turn: Turn, is_normalized: bool, info: ModelInfo) -> tuple[Turn, tuple[Notice, ...]]:
    """The turn with its text as the model will speak it, and notices about text that is not spoken."""
    trained = info.trained_for
    text = normalize(turn.text) if is_normalized else Prepared.typed(turn.text)
    if trained.alphabet:
        text = readable(text, trained.alphabet)
    if not text.text.strip():
        raise InvalidRequest(path, "holds nothing that can be spoken: send words")
    return replace(turn, prepared=pieces(text, trained.longest_piece_words)), text.notices


def audio_source(path: str, value: str) -> Audio:
    """The audio in `value`: base64, a data URI or a URL. Raises InvalidAudio for any other text."""
    if value[:8].lower().startswith(("http://", "https://")):
        return UrlAudio(value)
    return InlineAudio(audio_bytes(path, value))


def _turns(asked: Asked, limits: LimitSettings) -> tuple[Turn, ...]:
    turns, max_chars = asked.turns, limits.max_job_text_chars if asked.is_job else limits.max_text_chars
    if not 1 <= len(turns) <= limits.max_scene_turns:
        raise InvalidRequest("turns", f"has {len(turns)} turns: send from 1 to {limits.max_scene_turns}")
    checked = tuple(
        replace(
            turn,
            text=check_text(f"turns[{number}].text", turn.text, max_chars),
            speaker=_speaker(f"turns[{number}].speaker", turn.speaker),
            adapter=turn.adapter or asked.adapter or None,
        )
        for number, turn in enumerate(turns)
    )
    if (num_chars := sum(len(turn.text) for turn in checked)) > max_chars:
        raise InvalidRequest("turns", f"have {num_chars} characters together, at most {max_chars} are allowed")
    return checked


def context_of(clips: Sequence[AskedClip], limits: LimitSettings) -> tuple[ContextSource, ...]:
    """Raises InvalidRequest and InvalidAudio for the first clip beyond a limit."""
    if len(clips) > limits.max_context_segments:
        raise InvalidRequest("context", f"has {len(clips)} segments: send at most {limits.max_context_segments}")
    return tuple(
        ContextSource(
            _transcript(f"context[{number}].text", clip.text, limits.max_text_chars),
            _speaker(f"context[{number}].speaker", clip.speaker),
            audio_source(f"context[{number}].audio", clip.audio),
        )
        for number, clip in enumerate(clips)
    )


def _transcript(path: str, text: str, max_chars: int) -> str:
    if not text.strip():
        raise InvalidRequest(
            path,
            "is missing: send the transcript of this clip, the words spoken in it. CSM reads text and audio of the "
            "context together",
        )
    return check_text(path, text, max_chars)


def check_text(path: str, text: str, max_chars: int) -> str:
    """`text` as the tokenizer can take it. Raises InvalidRequest where it is empty or too long."""
    if not text.strip():
        raise InvalidRequest(path, "is empty: send something to speak")
    if len(text) > max_chars:
        raise InvalidRequest(
            path, f"has {len(text)} characters, at most {max_chars} are allowed: send it in several requests"
        )
    # JSON can carry half a surrogate pair, which no tokenizer takes.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _speaker(path: str, speaker: int) -> int:
    if not 0 <= speaker <= _MAX_SPEAKER:
        raise InvalidRequest(path, f"must be an integer from 0 to {_MAX_SPEAKER}, the speaker's number in the scene")
    return speaker
