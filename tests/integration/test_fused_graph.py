"""Generator and decoder in one process: the same streams, and the same failover when such a process dies."""

import asyncio
import signal
from collections.abc import Iterator

import httpx
import pytest

from serve_app.settings import EngineSettings, Settings, StandInSettings
from tests.support.ray_server import Server
from tests.support.stand_in_graph import (
    Heard,
    expected_sound,
    replica_processes,
    running,
    samples,
    speak,
    until_nothing_is_held,
    until_running,
)

STREAMS = 4
SECONDS = 6


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = Settings(
        model="stand-in",
        graph="fused",
        stand_in=StandInSettings(step_ms_by_batch={1: 30.0}),
        engine=EngineSettings(max_batch_size=8, threads=1, max_lead_seconds=2),
    )
    with running(settings, num_replicas=2) as server:
        yield server


async def test_streams_go_on_when_the_process_of_both_is_killed(server: Server) -> None:
    assert not replica_processes("TokenGenerator")
    await until_running("AudioDecoder", 2)
    heard = {seed: Heard() for seed in range(STREAMS)}
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        for seed, one in heard.items():
            tasks.create_task(speak(client, server, seed, SECONDS, one))
        while any(len(one.sound) < 44 + 3840 for one in heard.values()):
            await asyncio.sleep(0.02)
        replica_processes("AudioDecoder")[0].send_signal(signal.SIGKILL)
    for seed, one in heard.items():
        assert (one.finish, one.sound[44:]) == ("length", expected_sound(seed, int(SECONDS * 12.5)))
    await until_nothing_is_held(server)


async def test_one_deployment_reports_both_parts(server: Server) -> None:
    async with httpx.AsyncClient() as client:
        await speak(client, server, 1, 1, Heard())
    where = {name: deployment for name, deployment, _, _ in samples(server)}
    assert (where["engine_slots"], where["decoder_slots"]) == ("AudioDecoder", "AudioDecoder")
