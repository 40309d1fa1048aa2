"""The slot decoder on its own thread, as the `AudioDecoder` that asyncio sees: it pulls a token generator."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from serve_app import log, metrics
from serve_app.audio.silence import SilenceGuard
from serve_app.codec.decoder_stream import DecoderStream
from serve_app.codec.slots import Slots, load_slots
from serve_app.errors import GenerationFailed, Overloaded
from serve_app.messages import (
    FRAME_SAMPLES,
    Accepted,
    AdapterRef,
    AudioChunk,
    Codes,
    FinishReason,
    GenerationRequest,
    ModelInfo,
    TokenFrames,
)
from serve_app.metrics import NO_METER, Meter
from serve_app.model.out_of_memory import memory_for_start
from serve_app.owner_thread import OwnerThread
from serve_app.ports import TokenGenerator
from serve_app.settings import CodecSettings, Settings
from serve_app.tracing import NO_TRACER, Span, Tracer

if TYPE_CHECKING:
    from serve_app.audio.inner_opus import OpusPackets

_log = logging.getLogger(__name__)
_MEMORY = ("the audio decoder", "codec.max_streams, or raise codec.memory_fraction")


@dataclass(frozen=True, slots=True)
class DecoderStats:
    """`busy` slots of all `slots`, and the streams with a consumer. More busy slots than streams mean a leak."""

    slots: int
    busy: int
    streams: int
    waiting: int = 0
    """Streams that the engine took and that wait for a slot here."""
    refused: int = 0
    """Streams since the start for which no slot came free in time. They are demand too."""


class DecoderService:
    """Satisfies `ports.AudioDecoder` in this process."""

    def __init__(
        self,
        slots: Slots,
        generator: TokenGenerator,
        settings: CodecSettings,
        meter: Meter = NO_METER,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._slots = slots
        self._generator = generator
        self._settings = settings
        self._meter = meter
        self._tracer = tracer
        self._num_consumed = self._num_waiting = self._num_refused = 0
        self._streams: list[DecoderStream] = []
        self._free_slots = asyncio.Semaphore(settings.max_streams)
        self._thread = OwnerThread("decoder", self._tick, self._fail_all, stuck_seconds=settings.stuck_seconds)

    @classmethod
    def load(
        cls, settings: Settings, generator: TokenGenerator, meter: Meter = NO_METER, tracer: Tracer = NO_TRACER
    ) -> Self:
        """With the codec of the model that the settings name; raises StartupError where it cannot be loaded."""
        with memory_for_start(*_MEMORY):
            return cls(load_slots(settings), generator, settings.codec, meter, tracer)

    async def warm_up(self) -> None:
        with memory_for_start(*_MEMORY):
            await self._thread.call(self._slots.warm_up)

    async def check_adapter(self, ref: AdapterRef) -> None:
        """See `ports.AudioDecoder`."""
        await self._generator.check_adapter(ref)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """See `ports.AudioDecoder`. Raises what the generator raises, and Overloaded where every slot is taken."""
        log.current_request_id.set(request.request_id)
        resumed_frames = request.resume.num_frames if request.resume else 0
        _log.debug("request %s: a stream begins at frame %d", request.request_id, resumed_frames)
        self._num_consumed += 1
        try:
            with self._tracer.span("stream", request.trace, request_id=request.request_id) as span:
                traced = replace(request, trace=span.traceparent)
                async with aclosing(self._stream(traced, span)) as messages:
                    async for message in messages:
                        yield message
        finally:
            self._num_consumed -= 1
            _log.debug("request %s: the stream is over", request.request_id)

    async def _stream(self, request: GenerationRequest, span: Span) -> AsyncGenerator[Accepted | AudioChunk, None]:
        stream, guard = DecoderStream(), SilenceGuard(self._settings.silent_tail_seconds)
        opus = _opus(self._settings.opus_kbps) if request.is_lossy else None
        has_slot = False
        try:
            async with aclosing(self._generator.generate(request)) as messages:
                async for message in messages:
                    if isinstance(message, Accepted):
                        has_slot = await self._wait_for_slot()
                        await self._thread.call(lambda: self._open(stream, request.resume))
                        span.event("slot open")
                        yield message
                        continue
                    chunk = await self._decode(stream, message, guard)
                    yield chunk if opus is None else await asyncio.to_thread(_packed, chunk, opus)
                    if chunk.finish is not None:
                        return
        finally:
            # Posted whatever happened: an opening that was cancelled half-way may still have been carried out.
            self._thread.post(lambda: self._close(stream))
            if has_slot:
                self._free_slots.release()

    async def decode(self, codes: Codes) -> bytes:
        """See `ports.AudioDecoder`. Raises Overloaded where every slot is taken, and GenerationFailed."""
        stream, has_slot = DecoderStream(), False
        self._num_consumed += 1
        try:
            has_slot = await self._wait_for_slot()
            await self._thread.call(lambda: self._open(stream, None))
            self._thread.post(lambda: self._submit(stream, codes.to_array()))
            return (await stream.inbox.get()).tobytes() if codes.num_frames else b""
        finally:
            self._num_consumed -= 1
            self._thread.post(lambda: self._close(stream))
            if has_slot:
                self._free_slots.release()

    async def _wait_for_slot(self) -> bool:
        """The engine has a row for this stream already, perhaps that of one whose last frames are decoded here yet."""
        self._num_waiting += 1
        try:
            async with asyncio.timeout(self._settings.max_wait_seconds):
                return await self._free_slots.acquire()
        except TimeoutError:
            self._num_refused += 1
            raise Overloaded("every audio decoder slot is taken", 2) from None
        finally:
            self._num_waiting -= 1

    async def info(self) -> ModelInfo:
        return await self._generator.info()

    async def num_streams(self) -> int:
        return await self._thread.call(lambda: len(self._streams))

    async def stats(self) -> DecoderStats:
        return DecoderStats(
            slots=self._settings.max_streams,
            busy=await self.num_streams(),
            streams=self._num_consumed,
            waiting=self._num_waiting,
            refused=self._num_refused,
        )

    def reconfigure(self, settings: CodecSettings) -> None:
        """Other limits for streams that begin from now on. Slots stay as they are."""
        self._settings = settings

    def check_health(self) -> None:
        """Raise GenerationFailed if decoding has failed, is dead, or does not come to the end of a tick."""
        self._thread.check()

    def stop(self) -> None:
        self._thread.stop()

    async def _decode(self, stream: DecoderStream, message: TokenFrames, guard: SilenceGuard) -> AudioChunk:
        frames = message.codes.to_array()
        sound = np.empty(0, np.int16)
        if len(frames):
            self._thread.post(lambda: self._submit(stream, frames))
            sound = await stream.inbox.get()
        is_runaway = any([guard.feed(samples) for samples in sound.reshape(-1, FRAME_SAMPLES)])
        finish = FinishReason.RUNAWAY if is_runaway and message.finish is None else message.finish
        return AudioChunk(message.first_frame, sound.tobytes(), message.codes, finish, num_lost=message.num_lost)

    def _submit(self, stream: DecoderStream, frames: NDArray[np.integer]) -> None:
        try:
            self._thread.check()
        except GenerationFailed as error:
            stream.inbox.put(error)
        else:
            stream.pending.extend(frames)

    def _open(self, stream: DecoderStream, resume: Codes | None) -> None:
        stream.slot = self._slots.open()
        assert stream.slot is not None, "as many streams are let in as there are slots"
        self._streams.append(stream)
        if resume is not None:
            stream.replay(resume.to_array()[-self._settings.replay_frames :])

    def _close(self, stream: DecoderStream) -> None:
        if stream.slot is not None:
            self._streams.remove(stream)
            self._slots.close(stream.slot)
            stream.slot = None

    def _tick(self) -> bool:
        """Frames of all streams that have some, in one batched call. They share what the codec takes in one, so the few
        frames of somebody who listens do not wait for the many of a mate who only wants a file, or is replayed."""
        ready = {stream.slot: stream for stream in self._streams if stream.slot is not None and stream.pending}
        most = max(1, self._slots.frames_per_call // max(1, len(ready)))
        frames = {slot: stream.next_frames(most) for slot, stream in ready.items()}
        began_at = time.perf_counter()
        sound = self._slots.decode(frames)
        if ready:
            seconds = time.perf_counter() - began_at
            self._meter.observe(metrics.DECODER_TICK_SECONDS, seconds / max(map(len, frames.values())))
        for slot, samples in sound.items():
            ready[slot].take(samples)
        return any(stream.pending for stream in self._streams)

    def _fail_all(self) -> None:
        for stream in self._streams:
            stream.inbox.put(GenerationFailed("the audio decoder failed while speaking; try again"))


def _opus(kbps: int) -> "OpusPackets | None":
    if not kbps:
        return None
    # FFmpeg takes memory that a decoder of PCM does without.
    from serve_app.audio.inner_opus import OpusPackets

    return OpusPackets(1000 * kbps)


def _packed(chunk: AudioChunk, opus: "OpusPackets") -> AudioChunk:
    return replace(chunk, pcm=b"", opus=opus.encode(chunk.pcm))
