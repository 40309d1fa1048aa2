"""What a caller asks for, whichever API dialect it came by; and the checks that all dialects share."""

import dataclasses
import time
from dataclasses import dataclass

from serve_app.errors import InvalidRequest
from serve_app.messages import FRAME_RATE_HZ, MAX_SEED, SamplingParams
from serve_app.settings import LimitSettings
from serve_app.speech.turns import frame_cap


@dataclass(frozen=True, slots=True)
class Turn:
    """A passage to speak."""

    text: str
    speaker: int


@dataclass(frozen=True, slots=True)
class ContextClip:
    """A passage that was spoken before. `pcm`: signed 16 bit little-endian mono at 24 kHz."""

    text: str
    speaker: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One answer: a single turn, or a scene of several that condition on each other.

    `sampling.max_frames` is not read: the texts and `max_audio_seconds`, of the whole answer, decide.
    """

    request_id: str
    turns: tuple[Turn, ...]
    context: tuple[ContextClip, ...]
    sampling: SamplingParams
    max_audio_seconds: float
    is_streamed: bool = True
    """Somebody may be listening while it is made; a file that is sent whole has no deadlines."""
    priority: int = 0
    """Above zero it is background work, in each of its turns; see `messages.GenerationRequest`."""
    arrived_at: float = dataclasses.field(default_factory=time.monotonic, compare=False)
    trace: str = ""
    """The caller's W3C `traceparent`."""

    @property
    def longest_seconds(self) -> float:
        """No answer to it is longer."""
        return min(self.max_audio_seconds, sum(frame_cap(turn.text) for turn in self.turns) / FRAME_RATE_HZ)


def check_text(field: str, text: str, max_chars: int) -> str:
    """`text` as it will be spoken; raises InvalidRequest where there is nothing to speak or too much."""
    if not text.strip():
        raise InvalidRequest(field, "is empty: send something to speak")
    if len(text) > max_chars:
        raise InvalidRequest(
            field, f"has {len(text)} characters, at most {max_chars} are allowed: send it in several requests"
        )
    # JSON can carry half a surrogate pair, which no tokenizer takes.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check_speaker(field: str, speaker: int) -> int:
    if not 0 <= speaker <= 999:
        raise InvalidRequest(field, "must be an integer from 0 to 999, the speaker's number in the conversation")
    return speaker


def check_sampling(params: SamplingParams, codebook_size: int) -> SamplingParams:
    """Raises InvalidRequest for the first parameter out of its range."""
    checks = (
        ("temperature", 0 < params.temperature <= 5, "must be above 0 and at most 5; for greedy speech send greedy"),
        ("top_k", 1 <= params.top_k <= codebook_size, f"must be from 1 to {codebook_size}, the size of a codebook"),
        ("top_p", 0 < params.top_p <= 1, "must be above 0 and at most 1; 1 switches it off"),
        ("repetition_penalty", 1 <= params.repetition_penalty <= 2, "must be from 1 to 2; 1 switches it off"),
        ("seed", 0 <= params.seed <= MAX_SEED, f"must be an integer from 0 to {MAX_SEED}"),
    )
    for field, is_fine, remedy in checks:
        if not is_fine:
            raise InvalidRequest(field, remedy)
    return params


def check_max_audio_seconds(seconds: float, limits: LimitSettings) -> float:
    if not 0 < seconds <= limits.max_audio_seconds:
        raise InvalidRequest(
            "max_audio_seconds",
            f"must be above 0 and at most {limits.max_audio_seconds:g}; leave it out for the longest",
        )
    return seconds
