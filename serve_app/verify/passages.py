"""The utterances to compare: a short text alone, and one after a clip if the checkpoint brings clips."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.codec.default_voices import default_clips
from serve_app.codec.encoder import ClipEncoder
from serve_app.codec.loading import load_codec
from serve_app.messages import (
    FRAME_SAMPLES,
    Accepted,
    Codes,
    ContextSegment,
    GenerationRequest,
    SamplingParams,
    TokenFrames,
)
from serve_app.model.checkpoint import Checkpoint
from serve_app.model.oracle import Passage, Spoken, TransformersOracle
from serve_app.settings import Settings

_CLIP_BYTES = 60 * 2 * FRAME_SAMPLES
"""4.8 seconds of whole frames. transformers pads partial frames differently."""
_CONTEXT_FRAMES = 2
_SERVED_TEXTS = ("Hello there.", "How are you today?", "Well, that was unexpected, to be honest.", "No.")


class Generates(Protocol):
    """The needed part of `ports.TokenGenerator`."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]: ...


@dataclass(frozen=True, slots=True)
class Utterance:
    """Passages, of which the last one is generated, and transformers' codes for it."""

    label: str
    passages: tuple[Passage, ...]
    max_frames: int
    spoken: Spoken

    @property
    def clips(self) -> list[bytes]:
        return [passage.pcm for passage in self.passages if passage.pcm is not None]

    def request(self) -> GenerationRequest:
        """The same request for our engine, with transformers' codes of the context, so that only models differ."""
        *context, target = self.passages
        segments = [
            ContextSegment(passage.text, passage.speaker, Codes.from_array(codes))
            for passage, codes in zip(context, self.spoken.context_codes, strict=True)
        ]
        return greedy(self.label, target.text, self.max_frames, tuple(segments), target.speaker)


def greedy(
    name: str, text: str, max_frames: int, context: tuple[ContextSegment, ...] = (), speaker: int = 0
) -> GenerationRequest:
    """A greedy request that may end at the first frame, as in transformers."""
    return GenerationRequest(
        name, text, speaker, context, SamplingParams(greedy=True, min_frames=0, max_frames=max_frames)
    )


def listen_to_transformers(checkpoint: Checkpoint, num_frames: int) -> list[Utterance]:
    """transformers' codes and logits. Its model is loaded and freed again."""
    oracle = TransformersOracle(checkpoint)
    return [
        Utterance(label, passages, frames, oracle.speak(passages, frames))
        for label, passages, frames in _passages(checkpoint, num_frames)
    ]


def encode_clips(settings: Settings, utterances: Sequence[Utterance]) -> list[list[NDArray[np.integer]]]:
    """Each utterance's clips, encoded by us on the CPU, as transformers does: [frames, codebooks]."""
    if not any(utterance.clips for utterance in utterances):
        return [[] for _ in utterances]
    encoder = ClipEncoder(load_codec(settings.model_copy(update={"device": "cpu"}))[1], cache_entries=0)
    return [[encoder.encode(pcm).to_array() for pcm in utterance.clips] for utterance in utterances]


def served_requests(num_frames: int, max_batch_size: int) -> list[GenerationRequest]:
    """Requests that the served engine runs at once, in one batch."""
    texts = _SERVED_TEXTS[:max_batch_size]
    return [greedy(f"verify-{number}", text, num_frames) for number, text in enumerate(texts)]


async def codes_of(generator: Generates, request: GenerationRequest) -> NDArray[np.int64]:
    """Codes of one request, [frames, codebooks]. Raises the generator's errors."""
    parts: list[NDArray[np.uint16]] = []
    async with aclosing(generator.generate(request)) as messages:
        async for message in messages:
            if isinstance(message, TokenFrames):
                parts.append(message.codes.to_array())
    return np.concatenate(parts).astype(np.int64)


def _passages(checkpoint: Checkpoint, num_frames: int) -> Iterator[tuple[str, tuple[Passage, ...], int]]:
    yield "a text alone", (Passage(0, "Hello there, how are you today?"),), num_frames
    for speaker, transcript, pcm in default_clips(checkpoint.folder):
        whole = pcm[: min(len(pcm) // (2 * FRAME_SAMPLES) * 2 * FRAME_SAMPLES, _CLIP_BYTES)]
        if whole:
            clip = Passage(speaker, transcript, whole)
            yield "after a clip", (clip, Passage(speaker, "And an answer.")), min(num_frames, _CONTEXT_FRAMES)
            return
