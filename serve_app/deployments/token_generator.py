"""The TokenGenerator deployment: backbone and depth decoder, with continuous batching."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from ray.serve.schema import ReplicaRank

from serve_app.deployments.heartbeats import Heartbeat
from serve_app.deployments.live_settings import with_user_config
from serve_app.deployments.own_generator import OwnGenerator
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.replica import Publisher, set_up_replica
from serve_app.messages import Accepted, AdapterRef, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import Settings


class TokenGeneratorDeployment:
    async def __init__(self, settings: Settings) -> None:
        self._identity = set_up_replica(settings)
        self._settings = settings
        self._generator = OwnGenerator(settings, self._identity, RayMeter())
        await self._generator.warm_up()
        self._publisher = Publisher(self._generator.watched.publish)

    async def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        live = with_user_config(self._settings, self._identity.deployment, user_config)
        await self._generator.reconfigure(live.engine)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames | Heartbeat, None]:
        async with aclosing(self._generator.watched.generate(request)) as messages:
            async for message in messages:
                yield message

    async def info(self) -> ModelInfo:
        return await self._generator.info()

    async def check_adapter(self, ref: AdapterRef) -> None:
        await self._generator.check_adapter(ref)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For `SlotPolicy`. Called by Serve."""
        return asdict(await self._generator.slot_load())

    async def record_routing_stats(self) -> dict[str, Any]:
        """For `PrefixRouter`. Called by Serve."""
        return await self._generator.routing_stats()

    async def check_health(self) -> None:
        self._generator.check_health()
