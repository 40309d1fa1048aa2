"""From what a dialect read to a scene within this server's limits. All dialects share these checks.

Errors carry neutral paths: `turns[0].text`, `context[2].audio`, `temperature`. Each dialect renders them in its names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from serve_app.audio.payload import audio_bytes
from serve_app.errors import InvalidRequest
from serve_app.messages import MAX_SEED, ModelInfo, SamplingParams
from serve_app.settings import LimitSettings, Settings
from serve_app.speech.scene import AnswerFile, Audio, ContextSource, InlineAudio, Scene, Turn, UrlAudio
from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.prepared import Notice, Prepared, merged
from serve_app.speech.text.readable import readable
from serve_app.speech.text.splitting import pieces

_MAX_SPEAKER = 999


@dataclass(frozen=True, slots=True)
class AskedClip:
    """`audio`: base64, a data URI, or an http(s) URL."""

    text: str
    speaker: int
    audio: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a dialect read it: the types are right, and nothing else is checked. None means left out."""

    turns: Sequence[Turn]
    context: Sequence[AskedClip] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """The fields of `SamplingParams` that the caller gave."""
    seed: int | None = None
    max_audio_seconds: float | None = None
    file: AnswerFile | None = None
    normalize: bool = True
    """Whether numbers, signs and abbreviations are spelled out before they are spoken."""
    is_job: bool = False
    """Whether the scene is queued. A job may be longer than a request whose caller waits."""


def build_scene(asked: Asked, info: ModelInfo, settings: Settings) -> Scene:
    """The scene that `asked` describes. Raises InvalidRequest for the first field beyond a limit."""
    limits = settings.limits
    turns = _turns(asked, limits)
    context = _context(asked.context, limits)
    sampling = _sampling(asked.sampling, info, settings)
    prepared = [_prepared(f"turns[{number}].text", turn, asked.normalize, info) for number, turn in enumerate(turns)]
    return Scene(
        turns=tuple(turn for turn, _ in prepared),
        context=context,
        seed=_seed(asked.seed),
        sampling=sampling,
        max_audio_seconds=_max_audio_seconds(asked.max_audio_seconds, limits),
        file=asked.file,
        notices=tuple(map(str, merged(*(notices for _, notices in prepared)))),
    )


def _prepared(path: str, turn: Turn, is_normalized: bool, info: ModelInfo) -> tuple[Turn, tuple[Notice, ...]]:
    """The turn with its text as the model will speak it, and what of the text is not spoken."""
    trained = info.trained_for
    text = normalize(turn.text) if is_normalized else Prepared.typed(turn.text)
    if trained.alphabet:
        text = readable(text, trained.alphabet)
    if not text.text.strip():
        raise InvalidRequest(path, "holds nothing that can be spoken: send words")
    return replace(turn, prepared=pieces(text, trained.longest_piece_words)), text.notices


def audio_source(path: str, value: str) -> Audio:
    """Where a clip's audio is, from what a caller sends. Raises InvalidAudio for text that is none of the three."""
    if value[:8].lower().startswith(("http://", "https://")):
        return UrlAudio(value)
    return InlineAudio(audio_bytes(path, value))


def _turns(asked: Asked, limits: LimitSettings) -> tuple[Turn, ...]:
    turns, max_chars = asked.turns, limits.max_job_text_chars if asked.is_job else limits.max_text_chars
    if not 1 <= len(turns) <= limits.max_scene_turns:
        raise InvalidRequest("turns", f"has {len(turns)} turns: send from 1 to {limits.max_scene_turns}")
    checked = tuple(
        Turn(
            check_text(f"turns[{number}].text", turn.text, max_chars),
            _speaker(f"turns[{number}].speaker", turn.speaker),
        )
        for number, turn in enumerate(turns)
    )
    if (num_chars := sum(len(turn.text) for turn in checked)) > max_chars:
        raise InvalidRequest("turns", f"have {num_chars} characters together, at most {max_chars} are allowed")
    return checked


def _context(clips: Sequence[AskedClip], limits: LimitSettings) -> tuple[ContextSource, ...]:
    if len(clips) > limits.max_context_segments:
        raise InvalidRequest("context", f"has {len(clips)} segments: send at most {limits.max_context_segments}")
    return tuple(
        ContextSource(
            check_text(f"context[{number}].text", clip.text, limits.max_text_chars),
            _speaker(f"context[{number}].speaker", clip.speaker),
            audio_source(f"context[{number}].audio", clip.audio),
        )
        for number, clip in enumerate(clips)
    )


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


def _seed(seed: int | None) -> int | None:
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise InvalidRequest("seed", f"must be an integer from 0 to {MAX_SEED}")
    return seed


def _sampling(given: Mapping[str, Any], info: ModelInfo, settings: Settings) -> SamplingParams:
    """The server's defaults, overridden by what was given."""
    defaults = settings.sampling.model_dump()
    defaults["top_k"] = min(defaults["top_k"], info.codebook_size)
    params = SamplingParams(**(defaults | dict(given)))
    size = info.codebook_size
    checks = (
        ("temperature", 0 < params.temperature <= 5, "must be above 0 and at most 5; for greedy speech send greedy"),
        ("top_k", 1 <= params.top_k <= size, f"must be from 1 to {size}, the size of a codebook"),
        ("top_p", 0 < params.top_p <= 1, "must be above 0 and at most 1; 1 switches it off"),
        ("repetition_penalty", 1 <= params.repetition_penalty <= 2, "must be from 1 to 2; 1 switches it off"),
    )
    for path, is_in_range, remedy in checks:
        if not is_in_range:
            raise InvalidRequest(path, remedy)
    return params


def _max_audio_seconds(seconds: float | None, limits: LimitSettings) -> float:
    if seconds is None:
        return limits.max_audio_seconds
    if not 0 < seconds <= limits.max_audio_seconds:
        raise InvalidRequest(
            "max_audio_seconds",
            f"must be above 0 and at most {limits.max_audio_seconds:g}; leave it out for the longest",
        )
    return seconds
