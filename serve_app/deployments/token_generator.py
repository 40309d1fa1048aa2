"""The TokenGenerator deployment: backbone and depth decoder, with continuous batching."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from ray.serve.schema import ReplicaRank

from serve_app.deployments.heartbeats import Heartbeat
from serve_app.deployments.live_settings import with_user_config
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.replica import Publisher, set_up_replica, with_threads
from serve_app.deployments.scaling.autoscaling import RecentGrowth, SlotLoad
from serve_app.deployments.scaling.prefix_router import ADAPTERS, CAPACITY
from serve_app.deployments.watched_generator import WatchedGenerator
from serve_app.engine.service import TokenService
from serve_app.messages import Accepted, AdapterRef, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import Settings
from serve_app.tracing import open_tracer


class TokenGeneratorDeployment:
    async def __init__(self, settings: Settings) -> None:
        self._identity = set_up_replica(settings)
        self._settings = settings
        self._service = TokenService.load(with_threads(settings, "engine"), self._identity.id)
        await self._service.warm_up()
        tracer = open_tracer(settings.tracing, self._identity.deployment, self._identity.id)
        self._watched = WatchedGenerator(self._service, RayMeter(), tracer)
        self._publisher = Publisher(self._watched.publish)
        self._refused = RecentGrowth()

    async def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        """New limits for new and waiting requests. Running ones go on."""
        live = with_user_config(self._settings, self._identity.deployment, user_config)
        await self._service.reconfigure(live.engine)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames | Heartbeat, None]:
        async with aclosing(self._watched.generate(request)) as messages:
            async for message in messages:
                yield message

    async def info(self) -> ModelInfo:
        return await self._service.info()

    async def check_adapter(self, ref: AdapterRef) -> None:
        await self._service.check_adapter(ref)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For `SlotPolicy`. Called by Serve."""
        stats = await self._service.stats()
        load = SlotLoad(
            capacity=stats.capacity,
            taken=stats.running,
            waiting=stats.waiting,
            refused=self._refused.growth(stats.refused),
            oldest_wait_seconds=stats.oldest_wait_seconds,
        )
        return asdict(load)

    async def record_routing_stats(self) -> dict[str, Any]:
        """For `PrefixRouter`. Called by Serve."""
        return {CAPACITY: (await self._service.stats()).capacity, ADAPTERS: self._service.held_adapters}

    async def check_health(self) -> None:
        self._service.check_health()
