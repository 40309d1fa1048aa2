"""Deployment: backbone and depth decoder, continuous batching."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ray import serve

from serve_app.deployments import replica_log
from serve_app.deployments.publisher import Publisher
from serve_app.deployments.ray_meter import RayMeter
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
        self._service = TokenService.load(with_threads(settings, "engine"), replica)
        await self._service.warm_up()
        tracer = open_tracer(settings.tracing, type(self).__name__, replica)
        self._watched = WatchedGenerator(self._service, RayMeter(), tracer)
        self._publisher = Publisher(self._watched.publish)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        async with aclosing(self._watched.generate(request)) as messages:
            async for message in messages:
                yield message

    async def info(self) -> ModelInfo:
        return await self._service.info()

    async def stats(self) -> EngineStats:
        return await self._service.stats()

    async def check_health(self) -> None:
        self._service.check_health()
