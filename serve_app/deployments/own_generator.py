"""The token generator of this process, with what is reported about it: all of a replica, or part of a decoder."""

from collections.abc import AsyncGenerator
from typing import Any

from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.replica import ReplicaIdentity, with_threads
from serve_app.deployments.scaling.autoscaling import RecentGrowth, SlotLoad
from serve_app.deployments.scaling.prefix_router import ADAPTERS, CAPACITY
from serve_app.deployments.watched_generator import WatchedGenerator
from serve_app.engine.service import TokenService
from serve_app.messages import Accepted, AdapterRef, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import EngineSettings, Settings
from serve_app.tracing import open_tracer


class OwnGenerator:
    """Satisfies `ports.TokenGenerator`."""

    def __init__(self, settings: Settings, identity: ReplicaIdentity, meter: RayMeter) -> None:
        self._service = TokenService.load(with_threads(settings, "engine"), identity.id)
        tracer = open_tracer(settings.tracing, identity.deployment, identity.id)
        self.watched = WatchedGenerator(self._service, meter, tracer)
        self._refused = RecentGrowth()

    async def warm_up(self) -> None:
        await self._service.warm_up()

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        return self.watched.messages(request)

    async def info(self) -> ModelInfo:
        return await self._service.info()

    async def check_adapter(self, ref: AdapterRef) -> None:
        await self._service.check_adapter(ref)

    async def reconfigure(self, settings: EngineSettings) -> None:
        """New limits for new and waiting requests. Running ones go on."""
        await self._service.reconfigure(settings)

    async def slot_load(self) -> SlotLoad:
        stats = await self._service.stats()
        return SlotLoad(
            capacity=stats.capacity,
            taken=stats.running,
            waiting=stats.waiting,
            refused=self._refused.growth(stats.refused),
            oldest_wait_seconds=stats.oldest_wait_seconds,
        )

    async def routing_stats(self) -> dict[str, Any]:
        """For `PrefixRouter`."""
        return {CAPACITY: (await self._service.stats()).capacity, ADAPTERS: self._service.held_adapters}

    def check_health(self) -> None:
        self._service.check_health()
