"""The AudioDecoder deployment of the fused graph: its token generator runs in the same process.

One hop less, half of the processes that compute, and no card that two of them share by turns. When a replica dies, the
ingress goes on with another one, as it does where only a decoder dies.
"""

from dataclasses import asdict
from typing import Any

from ray.serve.schema import ReplicaRank

from serve_app.deployments.audio_decoder import AudioDecoderDeployment
from serve_app.deployments.live_settings import with_user_config
from serve_app.deployments.own_generator import OwnGenerator
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.replica import set_up_replica
from serve_app.deployments.scaling.autoscaling import SlotLoad
from serve_app.settings import Settings


class FusedDecoderDeployment(AudioDecoderDeployment):
    async def __init__(self, settings: Settings) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        identity, meter = set_up_replica(settings), RayMeter()
        self._generator = OwnGenerator(settings, identity, meter)
        await self._generator.warm_up()
        await self._open(self._generator, with_all_memory(settings), identity, meter)

    async def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        await super().reconfigure(user_config, rank)
        live = with_user_config(self._settings, self._identity.deployment, user_config)
        await self._generator.reconfigure(live.engine)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For `SlotPolicy`. Called by Serve. A stream needs a slot of each part."""
        return asdict(both(await self._generator.slot_load(), await self._slot_load()))

    async def record_routing_stats(self) -> dict[str, Any]:
        """For `PrefixRouter`. Called by Serve."""
        return await self._generator.routing_stats()

    async def check_health(self) -> None:
        self._generator.check_health()
        await super().check_health()

    async def publish(self) -> None:
        await self._generator.watched.publish()
        await super().publish()


def with_all_memory(settings: Settings) -> Settings:
    """The settings of a codec that is loaded beside a generator: a limit on memory holds for the whole process."""
    fraction = min(1.0, settings.engine.memory_fraction + settings.codec.memory_fraction)
    return settings.model_copy(update={"codec": settings.codec.model_copy(update={"memory_fraction": fraction})})


def both(engine: SlotLoad, codec: SlotLoad) -> SlotLoad:
    """The load of a replica whose streams hold a slot of each."""
    return SlotLoad(
        capacity=min(engine.capacity, codec.capacity),
        taken=max(engine.taken, codec.taken),
        waiting=engine.waiting + codec.waiting,
        refused=engine.refused + codec.refused,
        oldest_wait_seconds=engine.oldest_wait_seconds,
    )
