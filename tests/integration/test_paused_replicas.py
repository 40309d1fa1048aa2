"""Replicas that stand still for a while: streams whose ingress is reachable go on, and nothing is left behind. Run by
`make test-partitions`. With stand-ins for the models."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from serve_app.settings import EngineSettings, Settings, StandInSettings
from tests.integration.test_killed_replicas import broken
from tests.support.ray_server import Server
from tests.support.stand_in_graph import (
    Heard,
    replica_processes,
    running,
    speak,
    until_nothing_is_held,
    until_running,
)

pytestmark = [pytest.mark.partitions, pytest.mark.timeout(600)]

STREAMS = 6
SECONDS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = Settings(
        model="stand-in",
        stand_in=StandInSettings(step_ms_by_batch={1: 30.0}),
        engine=EngineSettings(max_batch_size=8, threads=1, max_lead_seconds=2),
    )
    with running(settings, num_replicas=2) as server:
        yield server


@pytest.mark.parametrize("seconds", [5, 40])
@pytest.mark.parametrize("kind", ["TokenGenerator", "AudioDecoder", "Ingress", "ContextEncoder", "JobRunner"])
async def test_a_replica_that_stands_still_costs_no_stream(server: Server, kind: str, seconds: int) -> None:
    """The only ingress is not reachable while it stands still. Serve replaces it after half a minute, so of the long
    pause only that nothing is left behind is asked."""
    for each in ("TokenGenerator", "AudioDecoder"):
        await until_running(each, 2)
    heard = {seed: Heard() for seed in range(STREAMS)}
    async with httpx.AsyncClient() as client:
        tasks = [asyncio.create_task(speak(client, server, seed, SECONDS, one)) for seed, one in heard.items()]
        while any(len(one.sound) <= 44 for one in heard.values()):
            await asyncio.sleep(0.02)
        victim = replica_processes(kind)[0]
        victim.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        with suppress(psutil.NoSuchProcess):  # Serve has replaced it
            victim.send_signal(signal.SIGCONT)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        if not (kind == "Ingress" and seconds == 40):
            assert not [error for error in ended if isinstance(error, BaseException)]
            assert not broken(heard, SECONDS)
        await until_running(kind, 1)
        after = Heard()
        assert not broken({99: await speak(client, server, 99, 1, after)}, 1)
    await until_nothing_is_held(server)
    longest = max(one.longest_gap for one in heard.values())
    sys.stdout.write(f"\n{kind} stood still for {seconds} s: longest gap {longest:.1f} s\n")
