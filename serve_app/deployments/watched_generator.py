"""Metrics, traces and log lines of a generator replica."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from serve_app import log, metrics
from serve_app.deployments.heartbeats import Heartbeat, with_heartbeats
from serve_app.deployments.leases import Leases
from serve_app.engine.service import TokenService
from serve_app.messages import Accepted, GenerationRequest, TokenFrames
from serve_app.metrics import Counter, Meter
from serve_app.tracing import Span, Tracer

_log = logging.getLogger(__name__)


class WatchedGenerator:
    """Wraps one `TokenService`. It counts calls, and `publish` reports them, so that no message costs a metric."""

    def __init__(self, service: TokenService, meter: Meter, tracer: Tracer) -> None:
        self._service = service
        self._meter = meter
        self._tracer = tracer
        self._num_streams = 0
        self._num_frames = 0
        self._leases = Leases("generator", meter)
        self._published: dict[str, int] = {}

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames | Heartbeat, None]:
        return self._leases.keep(with_heartbeats(self.messages(request)), request.timeout_seconds)

    async def publish(self) -> None:
        """Raises GenerationFailed once the engine has failed."""
        await self._leases.reap()
        meter, stats = self._meter, await self._service.stats()
        meter.set(metrics.ENGINE_STEP_FALLBACK, bool((await self._service.info()).step_fallback))
        meter.set(metrics.ENGINE_SLOTS, stats.slots)
        meter.set(metrics.ENGINE_CAPACITY, stats.capacity)
        meter.set(metrics.ENGINE_RUNNING, stats.running)
        meter.set(metrics.ENGINE_PAUSED, stats.paused)
        meter.set(metrics.ENGINE_WAITING, stats.waiting)
        meter.set(metrics.ENGINE_OLDEST_WAIT, stats.oldest_wait_seconds)
        meter.set(metrics.ENGINE_STEP_SECONDS, stats.step_ms / 1000)
        meter.set(metrics.ENGINE_STREAMS, self._num_streams)
        self._count_growth(metrics.ENGINE_REFUSED, stats.refused)
        self._count_growth(metrics.ENGINE_SET_ASIDE, stats.set_aside)
        self._count_growth(metrics.ENGINE_FRAMES, self._num_frames)
        self._count_growth(metrics.ENGINE_PROMPT_POSITIONS, stats.prompt_positions)
        self._count_growth(metrics.ENGINE_RESTORED_POSITIONS, stats.restored_positions)

    async def messages(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        """Without heartbeats and lease, for a consumer in the same process."""
        log.current_request_id.set(request.request_id)
        resumed_frames = request.resume.num_frames if request.resume else 0
        _log.debug("request %s: a sequence begins at frame %d", request.request_id, resumed_frames)
        self._num_streams += 1
        try:
            with self._tracer.span("generate", request.trace, request_id=request.request_id) as span:
                async with aclosing(self._service.generate(request)) as messages:
                    async for message in messages:
                        self._note(message, span, resumed_frames)
                        yield message
        finally:
            self._num_streams -= 1

    def _note(self, message: Accepted | TokenFrames, span: Span, resumed_frames: int) -> None:
        if isinstance(message, Accepted):
            span.event("accepted", queue_seconds=message.queue_seconds, prompt_tokens=message.prompt_tokens)
            return
        if message.first_frame == resumed_frames:
            span.event("first frame")
        self._num_frames += message.codes.num_frames
        if message.finish is not None:
            span.set(finish=message.finish.value, frames=message.first_frame + message.codes.num_frames)

    def _count_growth(self, metric: Counter, total: int) -> None:
        self._meter.count(metric, total - self._published.get(metric.name, 0))
        self._published[metric.name] = total
