"""The messages between processes: small frozen values without framework objects."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 24_000
FRAME_RATE_HZ = 12.5
FRAME_SAMPLES = 1920
"""One frame is 80 ms: 1920 samples at 24 kHz."""
MAX_SEED = 2**63 - 1
MAX_TEMPERATURE = 5.0

_CODE_DTYPE = np.dtype("<u2")


@dataclass(frozen=True, slots=True)
class Codes:
    """Frames of audio codes: unsigned 16 bit little-endian, `num_codebooks` a frame, one frame after the other."""

    data: bytes
    num_codebooks: int

    def __post_init__(self) -> None:
        assert len(self.data) % (2 * self.num_codebooks) == 0, "codes hold whole frames"

    @property
    def num_frames(self) -> int:
        return len(self.data) // (2 * self.num_codebooks)

    @classmethod
    def empty(cls, num_codebooks: int) -> Self:
        return cls(b"", num_codebooks)

    @classmethod
    def from_array(cls, frames: NDArray[np.integer]) -> Self:
        """`frames`: [num_frames, num_codebooks], values in 0..65535."""
        return cls(np.ascontiguousarray(frames, dtype=_CODE_DTYPE).tobytes(), frames.shape[1])

    def to_array(self) -> NDArray[np.uint16]:
        """[num_frames, num_codebooks], read-only."""
        return np.frombuffer(self.data, dtype=_CODE_DTYPE).reshape(self.num_frames, self.num_codebooks)

    def __add__(self, other: "Codes") -> "Codes":
        assert self.num_codebooks == other.num_codebooks
        return replace(self, data=self.data + other.data)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How codes are drawn and when a sequence ends. The parameters apply to every codebook alike."""

    temperature: float = 0.9
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    """Divides (if negative, multiplies) the logits of codes that the same codebook had in recent frames."""
    greedy: bool = False
    seed: int = 0
    min_frames: int = 1
    """End of speech is not drawn before this many frames."""
    max_frames: int = 1125


@dataclass(frozen=True, slots=True)
class Draw:
    """What may differ between two takes of the same utterance."""

    seed: int
    temperature: float


@dataclass(frozen=True, slots=True)
class ContextSegment:
    """One spoken passage of the context: its transcript and its audio as codes."""

    text: str
    speaker: int
    codes: Codes
    anchor: bool = False
    """An anchor holds a voice. It is never dropped when the context does not fit."""
    public: bool = False
    """It is the server's own, such as a checkpoint's voice. What is computed from it may serve every key."""


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An adapter that the server's operator has named, and where its files are."""

    name: str
    source: str
    """A folder or a Hub repository."""
    revision: str | None = None
    version: str = ""
    """Changes when other files come under the same name."""

    @property
    def key(self) -> bytes:
        """What the prefix cache tells its keys and values from others' by."""
        return hashlib.sha256(repr((self.name, self.source, self.revision, self.version)).encode()).digest()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One utterance to generate. It continues after the frames in `resume`, if there are any."""

    request_id: str
    text: str
    speaker: int
    context: tuple[ContextSegment, ...] = ()
    sampling: SamplingParams = SamplingParams()
    priority: int = 0
    """Lower goes first, and within a priority the earlier request.

    Below zero it continues an answer that a listener hears already, and is never refused for want of a slot.
    Above zero it is background work, and gives up its slot while a request at or below zero waits for one.
    """
    timeout_seconds: float = 600.0
    """The engine drops the sequence after this time, whatever its consumer does."""
    resume: Codes | None = None
    becomes_context: bool = False
    """A later request will have this one as context, so its keys and values are worth keeping."""
    paced: bool = False
    """A listener plays it live. It runs ahead of the listener by at most `engine.max_lead_seconds`.

    Nobody hears what is not paced before its end.
    """
    speed: float = 1.0
    """How fast the listener of a paced request hears it: 2 is twice as fast as it is spoken."""
    lead_seconds: float = 0.0
    """Audio that the listener of a paced request has still to play, from earlier turns of the same answer."""
    trace: str = ""
    """The W3C `traceparent` of the calling span. Empty without tracing."""
    waited_seconds: float = 0.0
    """How long it waited for a slot on other replicas. It keeps its place in the order of arrival."""
    was_refused: bool = False
    """A full replica refused it. Routing then prefers the least busy replica of a few."""
    adapter: AdapterRef | None = None
    """Changes the model for this utterance."""
    num_lost: int = 0
    """How many replicas it lost so far. Routing then prefers a replica other than its first."""
    is_lossy: bool = False
    """Its listener gets a format that loses sound. So may the way to the ingress (`codec.opus_kbps`)."""
    owner: str = ""
    """The key whose request it is. Empty where all callers are one. Keys share slots, and do not share caches."""


class FinishReason(StrEnum):
    """Why a sequence ended."""

    EOS = "eos"
    LENGTH = "length"
    RUNAWAY = "runaway"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The first message of every stream: the request has a slot, and its status can be sent."""

    request_id: str
    seed: int
    replica: str
    queue_seconds: float
    prompt_tokens: int
    dropped_segments: int = 0
    """Context segments that did not fit into the prompt."""
    context: tuple[ContextSegment, ...] = ()
    """What the answer is conditioned on. The pipeline sets it, for the answer's record."""
    num_given: int = 0
    """The first of these, which condition every part of the answer. The others give way to what is spoken."""


@dataclass(frozen=True, slots=True)
class TokenFrames:
    """Consecutive generated frames. The last message has `finish` set, and may hold no frame."""

    first_frame: int
    codes: Codes
    finish: FinishReason | None = None
    num_lost: int = 0
    """Replicas that the stream had lost before these frames."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """The part of an answer that a chunk belongs to. The codec starts anew with each."""

    number: int
    """Within the answer, from 0."""
    turn: int
    speaker: int
    text: str
    """As it is spoken: numbers are words."""
    num_words: int
    start: int
    end: int
    """The typed characters of the turn's text that it speaks."""
    ends_with: int
    """How strong the pause after it is, a `speech.text.splitting.Break`."""
    seed: int
    temperature: float


@dataclass(frozen=True, slots=True)
class SpokenPart:
    """Where one part of an answer stands in its audio and in its typed texts. Pauses belong to no part."""

    turn: int
    first_frame: int
    end_frame: int
    """The frame behind the last."""
    start_char: int
    end_char: int
    """Typed characters of all turns, those of earlier turns included."""
    text: str = ""
    """What was spoken: the typed characters, prepared."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """The same frames as sound: signed 16 bit little-endian mono PCM at 24 kHz, 1920 samples a frame.

    `codes` are the frames' codes, so that a consumer can use them as context, or to resume the stream.
    """

    first_frame: int
    pcm: bytes
    codes: Codes
    finish: FinishReason | None = None
    turn: int = 0
    """The turn of a scene that speaks, from 0."""
    spoken_chars: int = 0
    """Characters of the typed texts that are spoken once the piece before this chunk has ended."""
    utterance: Utterance | None = None
    """The part of the answer that speaks, or that this pause follows. The pipeline sets it."""
    attempt: int = 0
    """The draw of this utterance that made the frames. Above 0 they were drawn again after a runaway."""
    num_lost: int = 0
    """Replicas that the utterance had lost before these frames."""
    part: SpokenPart | None = None
    """The part that has ended, on a chunk without audio right behind it."""
    opus: tuple[bytes, ...] = ()
    """Between replicas only: packets instead of `pcm`."""

    @property
    def num_frames(self) -> int:
        """Frames of audio. A pause has audio and no codes."""
        return len(self.pcm) // (2 * FRAME_SAMPLES)


@dataclass(frozen=True, slots=True)
class TrainedFor:
    """What a checkpoint learnt. The pipeline splits text and context accordingly."""

    longest_piece_words: int = 40
    """Words of the longest utterance that it speaks reliably."""
    longest_context_seconds: float = 90.0
    """Audio of the longest context that it has learnt to follow."""
    alphabet: str = ""
    """The only characters that it can read, besides spaces; empty where it reads any."""


@dataclass(frozen=True, slots=True)
class WordTime:
    """When a word is heard, in seconds."""

    text: str
    """As it was spoken, with its punctuation."""
    start_seconds: float
    end_seconds: float
    is_estimated: bool = False
    """Whether the word was not found in the sound, and was placed by its length alone."""


TRAINED, RANDOM, DEMO_VOICE = "trained", "random", "demo voice"
WEIGHTS_NOTICES = {
    RANDOM: "random weights: what this server says is noise; for speech use MODEL=sesame/csm-1b",
    DEMO_VOICE: "demo voice: a synthetic robot voice for trying the server; for speech use MODEL=sesame/csm-1b",
}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that a token generator serves."""

    model: str
    weights: str
    """`trained`, `random`, `demo voice`, or `stand-in` without a model."""
    num_codebooks: int
    codebook_size: int
    max_positions: int
    device: str
    dtype: str
    max_batch_size: int
    quantization: str = "none"
    """The type of quantized matrices, "int8" or "fp8", or "none"."""
    step: str = "none"
    """The decode step: "plain", "native", "graphs" or "fused"."""
    step_fallback: str = ""
    """Why a slower step runs than this device is made for, such as a kernel that does not compile. Empty otherwise."""
    trained_for: TrainedFor = TrainedFor()
    checkpoint: str = ""
    """A hash of the checkpoint's weights and configuration. Empty for a stand-in."""

    @property
    def notice(self) -> str | None:
        """A warning for listeners about the weights, if they need one."""
        return WEIGHTS_NOTICES.get(self.weights)
