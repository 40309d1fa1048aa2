"""Replicas are killed while people listen, and people leave: every stream's bytes are those of an undisturbed one, and
nothing is left behind. With stand-ins for the models, whose codes depend on seed and frame alone: what is tested is the
graph.
"""

import asyncio
import base64
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from serve_app.audio.wav import wav_file
from serve_app.settings import EngineSettings, Settings, StandInSettings
from tests.support.fakes import pcm_of
from tests.support.ray_server import Server
from tests.support.stand_in_graph import (
    Heard,
    expected_sound,
    growth_mb,
    memory_mb,
    replica_processes,
    running,
    samples,
    speak,
    until_nothing_is_held,
    until_running,
)

STREAMS = 8
LISTENERS = 16
SECONDS = 8
KINDS = ("TokenGenerator", "AudioDecoder")
MARGIN_MB = 40


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = Settings(
        model="stand-in",
        stand_in=StandInSettings(step_ms_by_batch={1: 30.0}),
        # A short lead, so that streams last about as long as what they say.
        engine=EngineSettings(max_batch_size=8, threads=1, max_lead_seconds=2),
    )
    with running(settings, num_replicas=3) as server:
        yield server


class Listeners:
    """So many streams at any time, one after the other, until they are told to stop."""

    def __init__(self, client: httpx.AsyncClient, server: Server) -> None:
        self._client = client
        self._server = server
        self._seeds = itertools.count(1)
        self._stopped = False
        self._now: dict[int, Heard] = {}
        self.heard: dict[int, Heard] = {}

    async def listen(self) -> None:
        while not self._stopped:
            seed = next(self._seeds)
            self._now[seed] = Heard()
            self.heard[seed] = await speak(self._client, self._server, seed, SECONDS, self._now[seed])
            del self._now[seed]

    def stop(self) -> None:
        self._stopped = True

    async def until_all_hear(self) -> None:
        while sum(len(heard.sound) > 44 for heard in self._now.values()) < STREAMS:
            await asyncio.sleep(0.02)


def broken(heard: dict[int, Heard], seconds: float) -> list[str]:
    whole = {seed: expected_sound(seed, int(seconds * 12.5)) for seed in heard}
    return [
        f"seed {seed}: status {h.status}, {h.finish}, {len(h.sound) - 44} of {len(whole[seed])} bytes"
        for seed, h in heard.items()
        if (h.status, h.finish, h.sound[44:]) != (200, "length", whole[seed])
    ]


@pytest.mark.parametrize("num_kills", [4, pytest.param(20, marks=[pytest.mark.kills, pytest.mark.timeout(1200)])])
async def test_streams_survive_the_replicas_behind_them(server: Server, num_kills: int) -> None:
    chance = random.Random(num_kills)
    victims = chance.sample([*KINDS] * (num_kills // 2), num_kills)
    for kind in KINDS:
        await until_running(kind, 3)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        listeners = Listeners(client, server)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(STREAMS):
                tasks.create_task(listeners.listen())
            await listeners.until_all_hear()
            before = memory_mb()
            for kind in victims:
                for each in KINDS:
                    await until_running(each, 2)
                await listeners.until_all_hear()
                chance.choice(replica_processes(kind)).send_signal(signal.SIGKILL)
                await asyncio.sleep(0.5)
            listeners.stop()
    assert not broken(listeners.heard, SECONDS)
    assert len(listeners.heard) >= STREAMS
    await until_nothing_is_held(server)
    grown = growth_mb(before)
    assert len(grown) >= 3, "ingress, encoder and the proxy at least"
    assert max(grown.values()) < MARGIN_MB, grown
    # Otherwise the killed ones held no stream, and the test saw nothing.
    survived = sum(value for name, _, _, value in samples(server) if name == "failover_seconds_count")
    assert survived >= 1
    sys.stdout.write(
        f"\n{num_kills} kills, {len(listeners.heard)} streams, {survived:.0f} losses noted by replicas that live, "
        f"memory {grown}\n"
    )


async def test_a_killed_encoder_costs_requests_with_context_no_more_than_time(server: Server) -> None:
    await until_running("ContextEncoder", 1)
    sound = base64.b64encode(wav_file(pcm_of(0, 5))).decode()
    body = {"text": "Hello.", "seed": 1, "max_audio_seconds": 1, "context": [{"text": "Before.", "audio": sound}]}
    async with httpx.AsyncClient(timeout=60) as client, asyncio.TaskGroup() as tasks:
        asked = []
        for number in range(40):
            if number == 10:
                replica_processes("ContextEncoder")[0].send_signal(signal.SIGKILL)
            asked.append(tasks.create_task(client.post(f"{server.url}/generate", json=body)))
            await asyncio.sleep(0.02)
    assert [request.result().status_code for request in asked] == [200] * 40
    assert {request.result().content[44:] for request in asked} == {expected_sound(1, 12)}


class Leaving:
    """Listeners of whom three in ten leave in the middle."""

    def __init__(self, client: httpx.AsyncClient, server: Server) -> None:
        self._client = client
        self._server = server
        self._chance = random.Random(5)
        self._seeds = itertools.count(10_000)
        self.broken: list[str] = []
        self.num_whole = self.num_left = 0

    async def listen(self, until: float) -> None:
        while time.monotonic() < until:
            seed, seconds = next(self._seeds), self._chance.choice((1, 3, 5))
            if self._chance.random() < 0.3:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._chance.uniform(0, 1.5)):
                        await speak(self._client, self._server, seed, 5, Heard())
                self.num_left += 1
            else:
                heard = await speak(self._client, self._server, seed, seconds, Heard())
                self.broken += broken({seed: heard}, seconds)
                self.num_whole += 1


@pytest.mark.parametrize("seconds", [10, pytest.param(1800, marks=[pytest.mark.soak, pytest.mark.timeout(2400)])])
async def test_listeners_come_and_leave_and_nothing_is_left_behind(server: Server, seconds: int) -> None:
    seconds = int(os.environ.get("CSM_SOAK_SECONDS", seconds))
    for kind in KINDS:
        await until_running(kind, 3)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        leaving = Leaving(client, server)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(LISTENERS):
                tasks.create_task(leaving.listen(time.monotonic() + seconds))
            # What is allocated once, is by then.
            await asyncio.sleep(seconds / 4)
            before = memory_mb()
    assert not leaving.broken
    assert min(leaving.num_whole, leaving.num_left) >= 10
    await until_nothing_is_held(server)
    grown = growth_mb(before)
    assert max(grown.values()) < MARGIN_MB, grown
    sys.stdout.write(f"\n{leaving.num_whole} streams whole, {leaving.num_left} left, memory {grown}\n")
