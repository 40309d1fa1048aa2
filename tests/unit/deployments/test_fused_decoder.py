"""A decoder with its generator inside: one replica speaks, reports both parts, and takes the live settings of both."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from serve_app.deployments import fused_decoder
from serve_app.deployments.fused_decoder import FusedDecoderDeployment, both, with_all_memory
from serve_app.deployments.replica import ReplicaIdentity
from serve_app.deployments.scaling.autoscaling import SlotLoad
from serve_app.deployments.scaling.prefix_router import ADAPTERS, CAPACITY
from serve_app.messages import Accepted, AudioChunk, GenerationRequest, SamplingParams
from serve_app.settings import CodecSettings, EngineSettings, Settings, StandInSettings
from tests.support.recording_meter import RecordingMeter
from tests.support.stand_in_graph import expected_sound

SETTINGS = Settings(
    model="stand-in",
    graph="fused",
    stand_in=StandInSettings(),
    engine=EngineSettings(max_batch_size=4),
    codec=CodecSettings(max_streams=3),
)


@pytest.fixture
async def replica(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FusedDecoderDeployment]:
    """Without a Ray that would name it."""
    monkeypatch.setattr(fused_decoder, "set_up_replica", lambda _: ReplicaIdentity("csm", "AudioDecoder", "r1"))
    monkeypatch.setattr(fused_decoder, "RayMeter", RecordingMeter)
    monkeypatch.setattr("serve_app.deployments.own_generator.with_threads", lambda settings, _: settings)
    monkeypatch.setattr("serve_app.deployments.audio_decoder.with_threads", lambda settings, _: settings)
    replica = cast(Any, FusedDecoderDeployment.__new__(FusedDecoderDeployment))
    await replica.__init__(SETTINGS)
    yield replica
    replica._service.stop()
    replica._generator._service.stop()


def asked(seed: int, num_frames: int) -> GenerationRequest:
    return GenerationRequest(f"r{seed}", "Hello.", 0, sampling=SamplingParams(seed=seed, max_frames=num_frames))


async def test_it_speaks_without_another_deployment(replica: FusedDecoderDeployment) -> None:
    messages = [message async for message in replica.stream(asked(7, 20))]
    assert isinstance(messages[0], Accepted) and messages[0].replica == "r1"
    sound = b"".join(message.pcm for message in messages if isinstance(message, AudioChunk))
    assert sound == expected_sound(7, 20)
    assert (await replica.info()).model == "stand-in"


async def test_it_reports_both_parts(replica: FusedDecoderDeployment) -> None:
    stream = replica.stream(replace(asked(1, 100_000), paced=True))
    while not isinstance(await anext(stream), AudioChunk):
        pass
    await replica.publish()
    meter = cast(RecordingMeter, replica._meter)
    assert [meter.gauges[f"csm_{name}"] for name in ("engine_slots", "decoder_slots")] == [4, 3]
    assert [meter.gauges[f"csm_{name}"] for name in ("engine_running", "decoder_busy")] == [1, 1]
    load = await replica.record_autoscaling_stats()
    assert (load["capacity"], load["taken"], load["waiting"]) == (3, 1, 0)
    assert await replica.record_routing_stats() == {CAPACITY: 4, ADAPTERS: ()}
    await stream.aclose()
    await replica.check_health()


async def test_it_takes_the_live_settings_of_both(replica: FusedDecoderDeployment) -> None:
    await replica.reconfigure({"engine": {"max_waiting": 0}, "codec": {"max_wait_seconds": 0.5}}, cast(Any, None))
    assert replica._service._settings.max_wait_seconds == 0.5
    assert replica._generator._service._engine._settings.max_waiting == 0


def test_a_stream_needs_a_slot_of_each() -> None:
    engine = SlotLoad(capacity=8, taken=5, waiting=2, refused=1, oldest_wait_seconds=3)
    codec = SlotLoad(capacity=6, taken=6, waiting=1, refused=1)
    assert both(engine, codec) == SlotLoad(capacity=6, taken=6, waiting=3, refused=2, oldest_wait_seconds=3)


def test_its_process_may_take_the_memory_of_both() -> None:
    changed = with_all_memory(SETTINGS)
    assert changed.codec.memory_fraction == pytest.approx(0.75)
    assert changed.engine.memory_fraction == 0.6
