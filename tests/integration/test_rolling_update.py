"""A Serve config that is given again while people listen: what may change live does, the rest replaces every replica,
and no stream is cut. With stand-ins for the models."""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.configured_graph import deploy, serving, status, until, until_running
from tests.support.ray_server import Server
from tests.support.stand_in_graph import TEXT, expected_sound, replica_processes

pytestmark = pytest.mark.slow

REPLICAS = 2
SLOTS = 2
SECONDS = 6
LONG_SECONDS = 15
"""For what must be seen while all of them speak."""
ARGS: dict[str, Any] = {
    "model": "stand-in",
    "stand_in": {"step_ms_by_batch": {1: 20}},
    "engine": {"max_batch_size": SLOTS, "max_step_ms": 0, "max_wait_seconds": 60, "max_lead_seconds": 1},
    "codec": {"max_streams": 16},
}
CHANGED_ARGS = ARGS | {"engine": ARGS["engine"] | {"max_waiting": 16}}
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "TokenGenerator": {"num_replicas": REPLICAS},
    "AudioDecoder": {"num_replicas": REPLICAS},
    "Ingress": {},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        deploy(ARGS, DEPLOYMENTS)
        until_running()
        yield server


async def speak(client: httpx.AsyncClient, server: Server, seed: int, seconds: float, begun: asyncio.Event) -> None:
    """Raises where it is not what an undisturbed stream sounds like."""
    body = {"text": TEXT, "seed": seed, "streaming": True, "max_audio_seconds": seconds}
    sound = b""
    async with client.stream("POST", f"{server.url}/generate", json=body, timeout=120) as response:
        assert response.status_code == 200, await response.aread()
        async for read in response.aiter_raw():
            sound += read
            begun.set()
    assert sound[44:] == expected_sound(seed, int(seconds * 12.5)), f"seed {seed}: {len(sound) - 44} bytes"


def pids() -> set[int]:
    return {process.pid for process in replica_processes()}


async def is_refused(client: httpx.AsyncClient, server: Server) -> bool:
    """Whether there is no room to wait; otherwise it waits, for half a second."""
    try:
        answer = await client.post(f"{server.url}/generate", json={"text": "One too many."}, timeout=0.5)
    except httpx.ReadTimeout:
        return False
    return answer.status_code == 429


async def test_a_rolling_update_cuts_no_stream_and_refuses_nobody(server: Server) -> None:
    before, seeds, is_over = pids(), itertools.count(100), asyncio.Event()

    async def listen(client: httpx.AsyncClient, event: asyncio.Event) -> None:
        await speak(client, server, next(seeds), SECONDS, event)
        while not is_over.is_set():
            await speak(client, server, next(seeds), 2, event)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits) as client, asyncio.TaskGroup() as tasks:
        begun = [asyncio.Event() for _ in range(REPLICAS * SLOTS)]
        for event in begun:
            tasks.create_task(listen(client, event))
        for event in begun:
            await event.wait()
        began = time.monotonic()
        deploy(CHANGED_ARGS, DEPLOYMENTS)
        await asyncio.to_thread(
            until, "all replaced", lambda: not pids() & before and status().status == "RUNNING", 240
        )
        is_over.set()
    sys.stdout.write(
        f"\n{len(before)} replicas replaced in {time.monotonic() - began:.0f} s, {next(seeds) - 100} streams whole\n"
    )


async def test_changes_while_people_listen_cut_no_stream(server: Server) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits) as client, asyncio.TaskGroup() as tasks:
        begun = [asyncio.Event() for _ in range(REPLICAS * SLOTS)]
        for seed, event in enumerate(begun):
            tasks.create_task(speak(client, server, seed, LONG_SECONDS, event))
        for event in begun:
            await event.wait()
        before = pids()
        changed = {
            "TokenGenerator": {"num_replicas": REPLICAS, "user_config": {"engine": {"max_waiting": 0}}},
            "Ingress": {"user_config": {"sampling": {"temperature": 0.5}}},
        }
        deploy(CHANGED_ARGS, DEPLOYMENTS | changed)
        async with asyncio.timeout(30):
            while (await client.get(f"{server.url}/info")).json()["sampling"]["temperature"] != 0.5:
                await asyncio.sleep(0.1)
            while not await is_refused(client, server):
                pass
        assert pids() == before
