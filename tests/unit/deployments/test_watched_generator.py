"""A generator replica's figures: calls, frames, and what its engine says."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from serve_app.deployments.replica import Publisher
from serve_app.deployments.watched_generator import WatchedGenerator
from serve_app.engine.service import TokenService
from serve_app.errors import GenerationFailed
from serve_app.messages import Accepted, GenerationRequest, ModelInfo, SamplingParams, TokenFrames
from serve_app.settings import EngineSettings, Settings, StandInSettings
from serve_app.tracing import NO_TRACER
from tests.support.recording_meter import RecordingMeter


@pytest.fixture
async def service() -> AsyncIterator[TokenService]:
    settings = Settings(model="stand-in", stand_in=StandInSettings(frames=500), engine=EngineSettings(max_batch_size=2))
    service = TokenService.load(settings)
    yield service
    service.stop()


def asked(max_frames: int = 6) -> GenerationRequest:
    return GenerationRequest("r", "Hello there.", 0, sampling=SamplingParams(max_frames=max_frames))


async def heard(messages: AsyncGenerator[Accepted | TokenFrames, None]) -> None:
    async for _ in messages:
        pass


async def test_what_was_spoken_is_counted_once(service: TokenService) -> None:
    meter = RecordingMeter()
    watched = WatchedGenerator(service, meter, NO_TRACER)
    await heard(watched.generate(asked()))
    for _ in range(2):
        await watched.publish()
    assert meter.counted["csm_engine_frames_total"] == 6
    assert meter.counted["csm_engine_prompt_positions_total"] > 3
    assert meter.gauges["csm_engine_slots"] == 2
    await heard(watched.generate(asked()))
    await watched.publish()
    assert meter.counted["csm_engine_frames_total"] == 12


@pytest.mark.parametrize("fallback", ["", "fused: product with 5 rows: CompilationError"])
async def test_a_slower_step_is_reported(service: TokenService, fallback: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = replace(await service.info(), step_fallback=fallback)

    async def told() -> ModelInfo:
        return info

    monkeypatch.setattr(service, "info", told)
    meter = RecordingMeter()
    await WatchedGenerator(service, meter, NO_TRACER).publish()
    assert meter.gauges["csm_engine_step_fallback"] == bool(fallback)


async def test_busy_rows_are_those_of_live_streams(service: TokenService) -> None:
    """The invariant of docs/observe.md, at its simplest."""
    meter = RecordingMeter()
    watched = WatchedGenerator(service, meter, NO_TRACER)

    async def published() -> tuple[float, float]:
        await watched.publish()
        held = meter.gauges["csm_engine_running"] + meter.gauges["csm_engine_waiting"]
        return held, meter.gauges["csm_engine_streams"]

    async with aclosing(watched.generate(asked(max_frames=100_000))) as messages:
        for _ in range(3):
            await anext(messages)
        held, streams = await published()
        assert held <= streams == 1
    assert await published() == (0, 0)


async def test_it_publishes_until_the_replica_is_done_for() -> None:
    calls = 0
    is_over = asyncio.Event()

    async def publish() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            is_over.set()
            raise GenerationFailed("the engine is dead")

    publisher = Publisher(publish, period_seconds=0)
    await is_over.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert calls == 3
    assert publisher is not None
