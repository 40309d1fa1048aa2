"""Streams that a framework forgets: closed past their deadline, and no earlier."""

from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from serve_app.deployments.leases import LEASE_SECONDS, Leases
from serve_app.deployments.watched_generator import WatchedGenerator
from serve_app.engine.service import TokenService
from serve_app.errors import GenerationFailed
from serve_app.messages import GenerationRequest
from serve_app.settings import EngineSettings, Settings, StandInSettings
from serve_app.tracing import NO_TRACER
from tests.support.recording_meter import RecordingMeter

TIMEOUT_SECONDS = 600.0


class World:
    """A clock, and streams that know whether they are open."""

    def __init__(self) -> None:
        self.now = 0.0
        self.num_open = 0
        self.meter = RecordingMeter()
        self.leases = Leases("decoder", self.meter, lambda: self.now)

    async def numbers(self) -> AsyncGenerator[int, None]:
        self.num_open += 1
        try:
            for number in range(3):
                yield number
        finally:
            self.num_open -= 1

    def stream(self) -> AsyncGenerator[int, None]:
        return self.leases.keep(self.numbers(), TIMEOUT_SECONDS)


async def test_a_kept_stream_is_the_same_stream() -> None:
    world = World()
    assert [number async for number in world.stream()] == [0, 1, 2]
    assert world.num_open == 0


async def test_a_forgotten_stream_is_closed_past_its_deadline() -> None:
    world = World()
    forgotten = world.stream()
    await anext(forgotten)
    world.now = TIMEOUT_SECONDS - 1
    await world.leases.reap()
    assert world.num_open == 1
    world.now = TIMEOUT_SECONDS + 1
    await world.leases.reap()
    assert world.num_open == 0
    assert world.meter.counted == {"csm_leases_expired_total{decoder}": 1}
    with pytest.raises(GenerationFailed, match="time is up"):
        await anext(forgotten)


async def test_one_that_is_taken_from_slowly_goes_on_past_its_deadline() -> None:
    world = World()
    slow = world.stream()
    await anext(slow)
    world.now = TIMEOUT_SECONDS
    await anext(slow)
    world.now += LEASE_SECONDS - 1
    await world.leases.reap()
    assert await anext(slow) == 2
    await slow.aclose()
    assert world.num_open == 0
    assert not world.meter.counted


@pytest.fixture
async def service() -> AsyncIterator[TokenService]:
    settings = Settings(model="stand-in", stand_in=StandInSettings(), engine=EngineSettings(max_batch_size=2))
    service = TokenService.load(settings)
    yield service
    service.stop()


async def test_a_generators_forgotten_stream_is_seen_in_its_metrics_until_it_is_closed(service: TokenService) -> None:
    meter, now = RecordingMeter(), 0.0
    watched = WatchedGenerator(service, meter, NO_TRACER)
    watched._leases = Leases("generator", meter, lambda: now)
    forgotten = watched.generate(GenerationRequest("r", "Hello there.", 0, paced=True))
    await anext(forgotten)
    await watched.publish()
    assert meter.gauges["csm_engine_streams"] == 1
    now = 700.0
    await watched.publish()
    await watched.publish()
    assert (meter.gauges["csm_engine_streams"], meter.gauges["csm_engine_running"]) == (0, 0)
    assert meter.counted["csm_leases_expired_total{generator}"] == 1
