"""Keeps requests alive when a replica dies: streams resume on another one from the last frame received, and clips are
encoded again."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from serve_app import metrics
from serve_app.errors import CsmServeError, GenerationFailed, NotReady, Overloaded, ReplicaLost
from serve_app.messages import (
    Accepted,
    AdapterRef,
    AudioChunk,
    Codes,
    ContextSegment,
    GenerationRequest,
    ModelInfo,
    TokenFrames,
)
from serve_app.metrics import NO_METER, Meter
from serve_app.ports import AudioDecoder, ContextEncoder, TokenGenerator
from serve_app.settings import FailoverSettings

_log = logging.getLogger(__name__)
M = TypeVar("M", TokenFrames, AudioChunk)
T = TypeVar("T")


class ResumingGenerator:
    """A `ports.TokenGenerator` that resumes a stream when its replica dies."""

    def __init__(self, generator: TokenGenerator, settings: FailoverSettings, meter: Meter = NO_METER) -> None:
        self._generator = generator
        self._settings = settings
        self._meter = meter

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        attempts = _Attempts(self._settings, self._meter, "generator")

        def ask(goes_on: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
            return self._generator.generate(replace(goes_on, num_lost=attempts.num_losses))

        return _resuming(ask, request, attempts)

    async def info(self) -> ModelInfo:
        return await self._generator.info()

    async def check_adapter(self, ref: AdapterRef) -> None:
        await self._generator.check_adapter(ref)


class ResumingDecoder:
    """A `ports.AudioDecoder` that resumes a stream when its replica dies."""

    def __init__(self, decoder: AudioDecoder, settings: FailoverSettings, meter: Meter = NO_METER) -> None:
        self._decoder = decoder
        self._settings = settings
        self._meter = meter

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        attempts = _Attempts(self._settings, self._meter, "decoder")

        def ask(goes_on: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
            return self._decoder.stream(replace(goes_on, num_lost=attempts.num_losses))

        return _resuming(ask, request, attempts)

    async def decode(self, codes: Codes) -> bytes:
        attempts = _Attempts(self._settings, self._meter, "decoder")
        return await _retrying(lambda: self._decoder.decode(codes), attempts, "kept codes")

    async def info(self) -> ModelInfo:
        return await self._decoder.info()

    async def check_adapter(self, ref: AdapterRef) -> None:
        await self._decoder.check_adapter(ref)


class RetryingEncoder:
    """A `ports.ContextEncoder` that asks another replica when one dies."""

    def __init__(self, encoder: ContextEncoder, settings: FailoverSettings, meter: Meter = NO_METER) -> None:
        self._encoder = encoder
        self._settings = settings
        self._meter = meter

    async def encode(self, pcm: bytes, owner: str = "") -> Codes:
        return await self._answer(lambda: self._encoder.encode(pcm, owner))

    async def default_voices(self) -> dict[int, ContextSegment]:
        return await self._answer(self._encoder.default_voices)

    async def codec(self) -> str:
        return await self._answer(self._encoder.codec)

    async def _answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await _retrying(ask, _Attempts(self._settings, self._meter, "encoder"), "context audio")


async def _retrying(ask: Callable[[], Awaitable[T]], attempts: "_Attempts", what: str) -> T:
    """The answer of whichever replica gives one."""
    while True:
        try:
            answer = await ask()
        except (ReplicaLost, Overloaded, NotReady) as error:
            if not attempts.is_going_on and not isinstance(error, ReplicaLost):
                raise
            attempts.count_loss(what, f"with the {what}", error)
            await asyncio.sleep(attempts.pause_seconds)
        else:
            attempts.note_progress()
            return answer


async def _resuming(
    open_stream: Callable[[GenerationRequest], AsyncGenerator[Accepted | M, None]],
    request: GenerationRequest,
    attempts: "_Attempts",
) -> AsyncGenerator[Accepted | M, None]:
    """One stream over as many replicas as it takes. `Accepted` comes once, and so does each frame.

    A message that comes out of turn ends an attempt too: the network between dying nodes may lose or repeat one.
    """
    received, is_accepted = request.resume, False
    while True:
        try:
            # A resumed stream must not be refused for lack of a slot, since its listener is there already.
            # Resumed background work stays in the background.
            urgent = request.priority if request.priority > 0 else min(request.priority, -1)
            goes_on = replace(request, resume=received, priority=urgent) if is_accepted else request
            async with aclosing(open_stream(goes_on)) as messages:
                async for message in messages:
                    if isinstance(message, Accepted):
                        if not is_accepted:
                            is_accepted = True
                            yield message
                        continue
                    if message.first_frame != _num_frames(received):
                        raise ReplicaLost(f"frame {message.first_frame} came out of turn")
                    attempts.note_progress()
                    received = _joined(received, message.codes)
                    yield replace(message, num_lost=message.num_lost + attempts.num_losses)
                    if message.finish is not None:
                        return
            raise ReplicaLost("a stream ended without saying how")
        except (ReplicaLost, Overloaded, NotReady) as error:
            # A busy server refuses a new stream. A stream that was accepted waits for a slot instead.
            if not is_accepted and not isinstance(error, ReplicaLost):
                raise
            attempts.count_loss(f"request {request.request_id}", f"after {_num_frames(received)} frames", error)
            await asyncio.sleep(attempts.pause_seconds)


class _Attempts:
    """How often a stream was lost, and since when it makes no progress."""

    def __init__(self, settings: FailoverSettings, meter: Meter, part: str) -> None:
        self._settings = settings
        self._meter = meter
        self._part = part
        self.num_losses = 0
        self._lost_at: float | None = None

    @property
    def pause_seconds(self) -> float:
        """Short at first, since another replica may be free. Then as long as a start of a replica takes."""
        return min(0.05 * 2**self.num_losses, 1.0)

    @property
    def is_going_on(self) -> bool:
        return self._lost_at is not None

    def note_progress(self) -> None:
        if self._lost_at is not None:
            self._meter.observe(metrics.FAILOVER_SECONDS, time.monotonic() - self._lost_at, part=self._part)
            self._lost_at = None

    def count_loss(self, who: str, where: str, error: CsmServeError) -> None:
        """Raises GenerationFailed once the stream is given up, which callers do not retry."""
        now = time.monotonic()
        self.num_losses += isinstance(error, ReplicaLost)
        self._lost_at = self._lost_at or now
        if self.num_losses > self._settings.max_losses or now - self._lost_at > self._settings.max_wait_seconds:
            self._meter.count(metrics.FAILOVERS_FAILED, part=self._part)
            raise GenerationFailed(f"no replica could go on {where}; try again") from error
        _log.warning("%s: a replica was lost %s; going on", who, where)


def _num_frames(received: Codes | None) -> int:
    return received.num_frames if received else 0


def _joined(received: Codes | None, codes: Codes) -> Codes:
    return codes if received is None else received + codes
