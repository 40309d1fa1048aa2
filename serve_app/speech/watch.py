"""Reports each answer to metrics, trace and log, the same way for every dialect."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Self

from serve_app import metrics
from serve_app.errors import InvalidRequest, NotReady, Overloaded
from serve_app.messages import FRAME_RATE_HZ, Accepted, AudioChunk, FinishReason
from serve_app.metrics import NO_METER, Meter
from serve_app.speech.parts import Part
from serve_app.speech.playback import Playback
from serve_app.speech.request import SpeechRequest
from serve_app.speech.rescue import PieceEnd
from serve_app.tracing import NO_TRACER, Tracer

_log = logging.getLogger(__name__)

_INSTANT_SECONDS = 0.005
"""Text that comes within this time was there already."""
_OUTCOMES: dict[type[BaseException], str] = {
    Overloaded: "refused",
    NotReady: "not_ready",
    InvalidRequest: "invalid",
    GeneratorExit: "cancelled",
    asyncio.CancelledError: "cancelled",
}
"""Outcomes of requests that ended by an exception. Any other exception is an error."""


class Watcher:
    """Meter, tracer and clock that the answers of one process share."""

    def __init__(
        self, meter: Meter = NO_METER, tracer: Tracer = NO_TRACER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.meter = meter
        self.tracer = tracer
        self.clock = clock
        self._num_live = 0

    def answer(self, request: SpeechRequest) -> "WatchedAnswer":
        return WatchedAnswer(request, self)

    def count_piece(self, end: PieceEnd, adapter: str = "") -> None:
        self.meter.count(metrics.UTTERANCES_ENDED, how=end.value, adapter=adapter)

    def count_live(self, change: int) -> None:
        self._num_live += change
        self.meter.set(metrics.REQUESTS_LIVE, self._num_live)


class WatchedAnswer:
    """A context manager around one answer. `note` takes each message as it is sent."""

    def __init__(self, request: SpeechRequest, watcher: Watcher) -> None:
        self._request = request
        self._watcher = watcher
        self._span = watcher.tracer.span(
            "request", request.trace, request_id=request.request_id, turns=len(request.turns)
        )
        self._playback = Playback(request.speed)
        self._first_audio_seconds = 0.0
        self._is_accepted = False
        self._is_live = False
        self._finish: FinishReason | None = None

    @property
    def traceparent(self) -> str:
        return self._span.traceparent

    def note(self, message: Accepted | AudioChunk) -> None:
        if isinstance(message, Accepted):
            self._is_accepted = True
            self._watcher.meter.observe(metrics.QUEUE_SECONDS, message.queue_seconds)
            self._span.event("accepted", queue_seconds=message.queue_seconds)
            return
        if message.pcm:
            self._hear(message)
        self._finish = message.finish

    async def awaited(self, parts: AsyncIterator[Part]) -> AsyncGenerator[Part, None]:
        """The parts of a text that is still growing. While one is awaited, no audio is late."""
        self._is_live = True
        while True:
            since = self._watcher.clock()
            part = await anext(parts, None)
            if part is None:
                return
            if (now := self._watcher.clock()) - since > _INSTANT_SECONDS:
                self._playback.rest(now)
            yield part

    def __enter__(self) -> Self:
        self._span.__enter__()
        self._watcher.meter.count(metrics.REQUESTS_STARTED)
        self._watcher.count_live(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = self._outcome(kind)
        self._watcher.count_live(-1)
        self._tell_meter(outcome)
        self._span.set(outcome=outcome, audio_seconds=self._playback.audio_seconds)
        self._span.__exit__(kind, error, trace)
        _log.info(
            "request %s: %s, %.2f s of audio, the first after %.3f s",
            self._request.request_id,
            outcome,
            self._playback.audio_seconds,
            self._first_audio_seconds,
        )

    def _seconds_since_arrival(self) -> float:
        return self._watcher.clock() - self._request.arrived_at

    def _hear(self, chunk: AudioChunk) -> None:
        meter, underrun_before = self._watcher.meter, self._playback.underrun_seconds
        seconds = chunk.num_frames / FRAME_RATE_HZ
        lateness = self._playback.hear(self._watcher.clock(), seconds)
        if lateness is None:
            self._first_audio_seconds = self._seconds_since_arrival()
            meter.observe(metrics.TIME_TO_FIRST_AUDIO, self._first_audio_seconds)
            self._span.event("first audio")
        elif self._request.is_streamed:
            meter.observe(metrics.CHUNK_LATENESS, max(0.0, lateness))
            if underrun := self._playback.underrun_seconds - underrun_before:
                meter.count(metrics.UNDERRUN_SECONDS, underrun)
                self._span.event("underrun", seconds=underrun)

    def _outcome(self, kind: type[BaseException] | None) -> str:
        if self._finish is not None and (kind is None or not issubclass(kind, Exception)):
            return self._finish.value  # a client that leaves after the last chunk has the whole answer
        if kind is None or (self._is_accepted and issubclass(kind, Exception)):
            return "error"
        return next((_OUTCOMES[parent] for parent in kind.__mro__ if parent in _OUTCOMES), "error")

    def _tell_meter(self, outcome: str) -> None:
        meter, audio_seconds = self._watcher.meter, self._playback.audio_seconds
        meter.count(metrics.REQUESTS_ENDED, outcome=outcome)
        meter.count(metrics.AUDIO_SECONDS, audio_seconds)
        has_pace = audio_seconds and not self._is_live  # a growing text sets the pace itself
        if has_pace and outcome in (FinishReason.EOS, FinishReason.LENGTH, FinishReason.RUNAWAY):
            meter.observe(metrics.REAL_TIME_FACTOR, self._seconds_since_arrival() / audio_seconds)
        if self._request.is_streamed and self._playback.num_chunks > 1:
            meter.observe(metrics.STREAM_UNDERRUN, self._playback.underrun_seconds)
