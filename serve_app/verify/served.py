"""The served configuration in this process: the services of the graph's replicas, without Ray."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import EncoderService
from serve_app.codec.loading import load_codec
from serve_app.codec.slots import Slots
from serve_app.codec.step_choice import make_slots
from serve_app.engine.service import TokenService
from serve_app.messages import (
    FRAME_RATE_HZ,
    Accepted,
    AudioChunk,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TokenFrames,
)
from serve_app.settings import Settings
from serve_app.speech.build import Asked, build_scene
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import ContextClip, SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.speech.takes import Takes

FRAME_MS = 1000 / FRAME_RATE_HZ

_TEXT = "Hello there, how are you today?"
_BATCH_SIZES = (1, 4, 8)
_PROBE_FRAMES = 6
_MEASURED_MS = 3000.0
_MAX_FRAMES = 50
_REPEATS = 3
_CODEC_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Sound:
    """An answer. `pcm`: signed 16 bit little-endian mono at 24 kHz."""

    pcm: bytes
    num_frames: int
    finish: FinishReason


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds. `step_ms`: one frame of every stream, by how many there are."""

    device: str
    dtype: str
    step: str
    step_ms: dict[int, float]
    first_audio_ms: float
    codec_ms: float
    codec_slots: int


class ServedModel:
    """Owns three threads until `stop`. Make and use it inside one event loop."""

    def __init__(self, settings: Settings) -> None:
        settings = _alone_on_its_device(settings)
        self._settings = settings
        self.tokens = TokenService.load(settings)
        self.encoder = EncoderService.load(settings)
        checkpoint, mimi = load_codec(settings)
        slots = make_slots(settings.codec, mimi)
        slots.warm_up()
        # Now, before the decoder's thread owns the slots, and while the engine is idle.
        self._codec_ms = _decode_ms(slots, checkpoint.shape.num_codebooks)
        self._decoder = DecoderService(slots, self.tokens, settings.codec)

    def stop(self) -> None:
        for part in (self._decoder, self.encoder, self.tokens):
            part.stop()

    async def speak(self, text: str, speaker: int = 0, context: tuple[ContextClip, ...] = (), seed: int = 0) -> Sound:
        """The answer to a minimal request, in the checkpoint's voice if it has one."""
        chunks = await self.chunks(text, speaker, context, seed)
        finish = chunks[-1].finish
        assert finish is not None, "the last chunk says why it is the last"
        return Sound(b"".join(chunk.pcm for chunk in chunks), sum(chunk.num_frames for chunk in chunks), finish)

    async def chunks(
        self, text: str, speaker: int = 0, context: tuple[ContextClip, ...] = (), seed: int = 0
    ) -> list[AudioChunk]:
        """The same answer, chunk by chunk."""
        stream = self.stream(Asked([Turn(text, speaker)]), seed, context)
        return [message async for message in stream if isinstance(message, AudioChunk)]

    async def stream(
        self, asked: Asked, seed: int, context: tuple[ContextClip, ...] = (), takes: Takes | None = None
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """The answer to any scene while it is made. Raises InvalidRequest for one that is beyond the limits."""
        scene = build_scene(asked, await self.tokens.info(), self._settings)
        request = SpeechRequest(
            request_id="verify",
            turns=scene.turns,
            context=context,
            sampling=replace(scene.sampling, seed=seed),
            max_audio_seconds=scene.max_audio_seconds,
        )
        async with aclosing(self.pipeline().stream(request, takes=takes)) as messages:
            async for message in messages:
                yield message

    def pipeline(self) -> SpeechPipeline:
        return SpeechPipeline(self.encoder, self._decoder)

    async def measure(self) -> Speed:
        info = await self.tokens.info()
        first_audio = [await self._first_audio_ms() for _ in range(_REPEATS + 1)]
        probe = await self._step_ms(1, _PROBE_FRAMES)
        num_frames = int(np.clip(_MEASURED_MS / probe, _PROBE_FRAMES, _MAX_FRAMES))
        return Speed(
            device=info.device,
            dtype=info.dtype if info.quantization == "none" else f"{info.dtype} with {info.quantization} matrices",
            step=info.step,
            step_ms={
                size: await self._step_ms(size, num_frames) for size in _BATCH_SIZES if size <= info.max_batch_size
            },
            # The first one includes warming up.
            first_audio_ms=median(first_audio[1:]),
            codec_ms=self._codec_ms,
            codec_slots=self._settings.codec.max_streams,
        )

    async def _first_audio_ms(self) -> float:
        """Milliseconds from a request to its first sound: prefill, one frame, decoding."""
        start = time.perf_counter()
        stream = self._decoder.stream(_request(0, 1))
        try:
            async for message in stream:
                if isinstance(message, AudioChunk):
                    return 1000 * (time.perf_counter() - start)
        finally:
            await stream.aclose()
        raise AssertionError("a stream ends with a chunk")

    async def _step_ms(self, batch_size: int, num_frames: int) -> float:
        return median(await asyncio.gather(*(self._frame_ms(_request(n, num_frames)) for n in range(batch_size))))

    async def _frame_ms(self, request: GenerationRequest) -> float:
        arrivals: list[tuple[float, int]] = []
        async for message in self.tokens.generate(request):
            if isinstance(message, TokenFrames):
                arrivals.append((time.perf_counter(), message.codes.num_frames))
        (start, _), *later = arrivals
        return 1000 * (later[-1][0] - start) / sum(count for _, count in later)


def _request(number: int, num_frames: int) -> GenerationRequest:
    """A request of exactly so many frames. Each `number` gives different speech."""
    sampling = SamplingParams(seed=number, min_frames=num_frames, max_frames=num_frames)
    # For a listener who hears everything at once: each frame is sent when it is there, and the engine never rests.
    return GenerationRequest(f"verify-{number}", _TEXT, 0, sampling=sampling, paced=True, speed=1e6)


def _decode_ms(slots: Slots, num_codebooks: int) -> float:
    """Milliseconds to decode one frame of one stream."""
    slot = slots.open()
    assert slot is not None, "no other stream is open"
    durations: list[float] = []
    for _ in range(_CODEC_FRAMES):
        start = time.perf_counter()
        slots.decode({slot: np.zeros((1, num_codebooks), dtype=np.int64)})
        durations.append(1000 * (time.perf_counter() - start))
    slots.close(slot)
    return median(durations)


def _alone_on_its_device(settings: Settings) -> Settings:
    """The settings with the memory of all three replicas given to this process."""
    fraction = min(1.0, settings.engine.memory_fraction + 2 * settings.codec.memory_fraction)
    changed = {"memory_fraction": fraction}
    return settings.model_copy(
        update={
            "engine": settings.engine.model_copy(update=changed),
            "codec": settings.codec.model_copy(update=changed),
        }
    )
