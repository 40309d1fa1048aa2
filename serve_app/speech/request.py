"""The pipeline's input: a scene whose context audio has been fetched and decoded."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass

from serve_app.messages import SAMPLE_RATE_HZ, AdapterRef, ContextSegment, Draw, SamplingParams
from serve_app.speech.scene import Turn


@dataclass(frozen=True, slots=True)
class ContextClip:
    """A passage that was spoken before. `pcm`: signed 16 bit little-endian mono at 24 kHz."""

    text: str
    speaker: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One answer: a scene of one or more turns, each conditioned on those before it.

    `sampling.max_frames` is not read: the texts and `max_audio_seconds`, of the whole answer, decide.
    """

    request_id: str
    turns: tuple[Turn, ...]
    context: tuple[ContextClip, ...]
    sampling: SamplingParams
    max_audio_seconds: float
    history: tuple[ContextSegment, ...] = ()
    """What was said before, in codes. The oldest give way where they do not fit."""
    is_streamed: bool = True
    """True if a listener may play it while it is generated. An answer that is sent whole has no deadlines."""
    speed: float = 1.0
    """How fast that listener hears it."""
    is_lossy: bool = False
    """See `messages.GenerationRequest`."""
    priority: int = 0
    """Above 0: background work. See `messages.GenerationRequest`."""
    arrived_at: float = dataclasses.field(default_factory=time.monotonic, compare=False)
    trace: str = ""
    """The caller's W3C `traceparent`."""
    adapters: Mapping[str, AdapterRef] = dataclasses.field(default_factory=dict)
    """Those that its turns name."""
    part_draws: Mapping[int, Draw] = dataclasses.field(default_factory=dict)
    """Draws of utterances by their number, instead of those that follow from the request's."""
    voices: tuple[ContextSegment, ...] = ()
    """Kept voices of its speakers. They come before the context."""
    owner: str = ""
    """The key whose request it is. Empty where all callers are one."""
    frames_before: int = 0
    """Of this answer, before it broke off."""

    def adapter_of(self, turn: int) -> AdapterRef | None:
        """The one that speaks turn number `turn`."""
        name = self.turns[turn].adapter
        return None if name is None else self.adapters[name]

    @property
    def context_seconds(self) -> float:
        return sum(len(clip.pcm) for clip in self.context) / (2 * SAMPLE_RATE_HZ)
