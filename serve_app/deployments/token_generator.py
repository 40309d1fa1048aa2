"""Deployment: backbone and depth decoder, continuous batching."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from ray import serve
from ray.serve.schema import ReplicaRank

from serve_app.deployments import replica_log
from serve_app.deployments.heartbeats import Heartbeat
from serve_app.deployments.live_settings import with_user_config
from serve_app.deployments.publisher import Publisher
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.scaling.autoscaling import Lately, SlotLoad
from serve_app.deployments.scaling.prefix_router import CAPACITY
from serve_app.deployments.threads import with_threads
from serve_app.deployments.watched_generator import WatchedGenerator
from serve_app.engine.service import TokenService
from serve_app.engine.stats import EngineStats
from serve_app.messages import Accepted, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import Settings
from serve_app.tracing import open_tracer


class TokenGenerator:
    async def __init__(self, settings: Settings) -> None:
        replica_log.set_up(settings)
        replica = serve.get_replica_context().replica_id.unique_id
        self._settings = settings
        self._service = TokenService.load(with_threads(settings, "engine"), replica)
        await self._service.warm_up()
        tracer = open_tracer(settings.tracing, type(self).__name__, replica)
        self._watched = WatchedGenerator(self._service, RayMeter(), tracer)
        self._publisher = Publisher(self._watched.publish)
        self._refused = Lately()

    async def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        """Limits for whoever comes or waits; those that run go on."""
        await self._service.reconfigure(with_user_config(self._settings, type(self).__name__, user_config).engine)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames | Heartbeat, None]:
        async with aclosing(self._watched.generate(request)) as messages:
            async for message in messages:
                yield message

    async def info(self) -> ModelInfo:
        return await self._service.info()

    async def stats(self) -> EngineStats:
        return await self._service.stats()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        stats = await self._service.stats()
        load = SlotLoad(
            capacity=stats.capacity,
            taken=stats.running,
            waiting=stats.waiting,
            refused=self._refused.growth(stats.refused),
            oldest_wait_seconds=stats.oldest_wait_seconds,
        )
        return asdict(load)

    async def record_routing_stats(self) -> dict[str, float]:
        """For `PrefixRouter`; called by Serve."""
        return {CAPACITY: (await self._service.stats()).capacity}

    async def check_health(self) -> None:
        self._service.check_health()
