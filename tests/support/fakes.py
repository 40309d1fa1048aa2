"""Small in-process stand-ins for what is behind the ports. Importable by name: tests/conftest.py puts this folder on
the path."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np

from serve_app.messages import (
    FRAME_SAMPLES,
    Accepted,
    AudioChunk,
    Codes,
    ContextSegment,
    FinishReason,
    GenerationRequest,
    ModelInfo,
)

NUM_CODEBOOKS = 4
INFO = ModelInfo("fake", "trained", NUM_CODEBOOKS, 2048, 2048, "cpu", "float32", 2)


def frames_of(value: int, num_frames: int) -> Codes:
    """Codes that tell by their value where they came from."""
    return Codes.from_array(np.full((num_frames, NUM_CODEBOOKS), value))


def pcm_of(value: int, num_frames: int = 1) -> bytes:
    """A loud square wave, whose first sample alone is `value`: a clip must be audible."""
    wave = np.resize(np.repeat(np.array([3000, -3000], "<i2"), 20), num_frames * FRAME_SAMPLES)
    wave[0] = value
    return wave.tobytes()


class FakeEncoder:
    """The codes of a clip are its first sample's value."""

    def __init__(self, voices: dict[int, ContextSegment] | None = None) -> None:
        self.voices = voices or {}
        self.codec_name = "fake"
        self.clips: list[bytes] = []

    async def encode(self, pcm: bytes, owner: str = "") -> Codes:
        self.clips.append(pcm)
        # The later a clip was sent the sooner it is done, so that order is seen to come from the request.
        for _ in range(10 - len(self.clips)):
            await asyncio.sleep(0)
        return frames_of(int.from_bytes(pcm[:2], "little"), -(-len(pcm) // (2 * FRAME_SAMPLES)))

    async def default_voices(self) -> dict[int, ContextSegment]:
        return self.voices

    async def codec(self) -> str:
        return self.codec_name


@dataclass(frozen=True)
class Utterance:
    """How the decoder answers one turn."""

    num_frames: int = 4
    finish: FinishReason = FinishReason.EOS
    refusal: Exception | None = None
    """Raised instead of `Accepted`."""
    break_with: Exception | None = None
    """Raised instead of `finish`."""
    waits_for_slot: bool = False
    """Never gets to `Accepted`."""
    stalls: bool = False
    """Never gets to `finish`."""


class FakeDecoder:
    """Speaks one utterance a request, the last one again and again, in chunks of two frames.

    The samples of frame n of the whole life of this decoder are all n; its codes are the number of the request, from 1.
    """

    def __init__(self, *utterances: Utterance, info: ModelInfo = INFO) -> None:
        self._utterances = utterances or (Utterance(),)
        self._info = info
        self.not_ready: Exception | None = None
        self.requests: list[GenerationRequest] = []
        self.num_spoken = 0
        self.num_open = 0
        self.news = asyncio.Event()
        """Set when a stream waits for ever."""

    async def info(self) -> ModelInfo:
        if self.not_ready is not None:
            raise self.not_ready
        return self._info

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        utterance = self._utterances[min(len(self.requests), len(self._utterances) - 1)]
        self.requests.append(request)
        self.num_open += 1
        try:
            if utterance.refusal is not None:
                raise utterance.refusal
            if utterance.waits_for_slot:
                await self._for_ever()
            yield Accepted(request.request_id, request.sampling.seed, "fake", 0.0, 10)
            async for chunk in self._speak(request, utterance):
                yield chunk
        finally:
            await asyncio.sleep(0)  # closing takes its time, as it does over the network
            self.num_open -= 1

    async def decode(self, codes: Codes) -> bytes:
        """Not the samples that were sent: loud frames, one for each frame of codes."""
        return pcm_of(int(codes.to_array()[0, 0]), codes.num_frames) if codes.num_frames else b""

    async def _speak(self, request: GenerationRequest, utterance: Utterance) -> AsyncGenerator[AudioChunk, None]:
        number = len(self.requests)
        num_frames = min(utterance.num_frames, request.sampling.max_frames)
        for first in range(0, num_frames, 2):
            size = min(2, num_frames - first)
            pcm = b"".join(pcm_of(self.num_spoken + n) for n in range(size))
            self.num_spoken += size
            yield AudioChunk(first, pcm, frames_of(number, size))
        if utterance.stalls:
            await self._for_ever()
        if utterance.break_with is not None:
            raise utterance.break_with
        finish = FinishReason.LENGTH if num_frames < utterance.num_frames else utterance.finish
        yield AudioChunk(num_frames, b"", frames_of(number, 0), finish)

    async def _for_ever(self) -> None:
        self.news.set()
        await asyncio.Event().wait()
