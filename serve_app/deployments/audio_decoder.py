"""The AudioDecoder deployment: turns codes into sound. Each of its streams pulls a token generator."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ReplicaRank

from serve_app import metrics
from serve_app.codec.decoder_service import DecoderService
from serve_app.deployments.handles import GeneratorHandle
from serve_app.deployments.heartbeats import Heartbeat, with_heartbeats
from serve_app.deployments.leases import Leases
from serve_app.deployments.live_settings import with_user_config
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.replica import (
    Publisher,
    ReplicaIdentity,
    log_http_request_id,
    set_up_replica,
    with_threads,
)
from serve_app.deployments.scaling.autoscaling import RecentGrowth, SlotLoad
from serve_app.messages import Accepted, AdapterRef, AudioChunk, Codes, GenerationRequest, ModelInfo
from serve_app.ports import TokenGenerator
from serve_app.settings import Settings
from serve_app.speech.failover import ResumingGenerator
from serve_app.tracing import open_tracer


class AudioDecoderDeployment:
    async def __init__(self, generator: DeploymentHandle, settings: Settings) -> None:
        identity, meter = set_up_replica(settings), RayMeter()
        resuming = ResumingGenerator(GeneratorHandle(generator, settings.failover), settings.failover, meter)
        await self._open(resuming, settings, identity, meter)

    async def _open(
        self, generator: TokenGenerator, settings: Settings, identity: ReplicaIdentity, meter: RayMeter
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._meter = meter
        tracer = open_tracer(settings.tracing, identity.deployment, identity.id)
        self._service = DecoderService.load(with_threads(settings, "codec"), generator, meter, tracer)
        await self._service.warm_up()
        self._leases = Leases("decoder", self._meter)
        self._publisher = Publisher(self.publish)
        self._refused = RecentGrowth()

    async def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        """New limits for streams that begin from now on."""
        self._service.reconfigure(with_user_config(self._settings, self._identity.deployment, user_config).codec)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk | Heartbeat, None]:
        stream = with_heartbeats(self._service.stream(request))
        async with aclosing(self._leases.keep(stream, request.timeout_seconds)) as messages:
            async for message in messages:
                yield message

    async def decode(self, codes: Codes) -> bytes:
        log_http_request_id()
        return await self._service.decode(codes)

    async def info(self) -> ModelInfo:
        return await self._service.info()

    async def check_adapter(self, ref: AdapterRef) -> None:
        await self._service.check_adapter(ref)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For `SlotPolicy`. Called by Serve."""
        return asdict(await self._slot_load())

    async def _slot_load(self) -> SlotLoad:
        """Streams in an engine's queue need no slot yet, so they do not count."""
        stats = await self._service.stats()
        refused = self._refused.growth(stats.refused)
        return SlotLoad(capacity=stats.slots, taken=stats.busy, waiting=stats.waiting, refused=refused)

    async def check_health(self) -> None:
        self._service.check_health()

    async def publish(self) -> None:
        await self._leases.reap()
        stats = await self._service.stats()
        self._meter.set(metrics.DECODER_SLOTS, stats.slots)
        self._meter.set(metrics.DECODER_BUSY, stats.busy)
        self._meter.set(metrics.DECODER_STREAMS, stats.streams)
