"""Generator replicas that come and go with the load: how soon, and that no stream is hurt by it. With stand-ins for the
models, and with Serve's waits shortened to seconds."""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.configured_graph import deploy, replica_states, serving, until, until_running
from tests.support.ray_server import Server
from tests.support.stand_in_graph import Heard, expected_sound, samples, speak

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The `metrics_interval_s`:DeprecationWarning"),  # no other way works
]

SLOTS = 2
LONG_SECONDS = 8
SOON = {"metrics_interval_s": 0.3, "look_back_period_s": 1, "upscale_delay_s": 0.3, "downscale_delay_s": 1}
POLICY = {
    "policy_function": "serve_app.deployments.scaling.autoscaling:SlotPolicy",
    "policy_kwargs": {"occupancy": 0.9, "shrink_occupancy": 0.75},
}
GENERATOR = "TokenGenerator"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    args = {
        "model": "stand-in",
        "stand_in": {"step_ms_by_batch": {1: 20}},
        "engine": {"max_batch_size": SLOTS, "max_step_ms": 0, "max_wait_seconds": 60, "max_lead_seconds": 1},
        "codec": {"max_streams": 16},
    }
    autoscaling = {"min_replicas": 0, "initial_replicas": 1, "max_replicas": 3, "downscale_to_zero_delay_s": 1}
    with serving() as server:
        deploy(args, {GENERATOR: {"autoscaling_config": autoscaling | SOON | {"policy": POLICY}}})
        until_running()
        yield server


def running() -> int:
    return replica_states(GENERATOR).get("RUNNING", 0)


def stopping() -> int:
    return replica_states(GENERATOR).get("STOPPING", 0)


def broken(heard: dict[int, Heard], seconds: float) -> list[str]:
    num_frames = int(seconds * 12.5)
    return [
        f"seed {seed}: status {one.status}, {one.finish}, {len(one.sound) - 44} bytes"
        for seed, one in heard.items()
        if (one.status, one.finish, one.sound[44:]) != (200, "length", expected_sound(seed, num_frames))
    ]


async def test_one_to_three_and_back_to_one_and_none_and_up_again(server: Server) -> None:
    """A load step of three replicas' slots; then three streams are left, one on each, that two replicas can hold."""
    seeds, heard, told = itertools.count(1), {}, []

    async def listen(client: httpx.AsyncClient, seconds: float) -> None:
        seed = next(seeds)
        heard[seed] = await speak(client, server, seed, seconds, Heard())

    async def keep_busy(client: httpx.AsyncClient, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            await listen(client, 3)

    def note(what: str, began: float) -> None:
        told.append(f"{what} after {time.monotonic() - began:.1f} s")

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        began, is_over = time.monotonic(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3 * SLOTS):
                tasks.create_task(keep_busy(client, is_over))
            await asyncio.to_thread(until, "asked for more", lambda: sum(replica_states(GENERATOR).values()) > 1)
            note("asked for more", began)
            for number in (2, 3):
                await asyncio.to_thread(until, f"{number} run", lambda number=number: running() >= number)
                note(f"{number} replicas", began)
            is_over.set()
        assert not broken(heard, 3)
        num_short = len(heard)
        heard.clear()
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(listen(client, LONG_SECONDS))
            await asyncio.to_thread(until, "a replica is drained", lambda: stopping() >= 1)
            note("shrinks", began)
            await asyncio.sleep(2)  # metrics are as old
            assert stopping(), "it waits for its stream"
            assert [v for name, where, _, v in samples(server) if (name, where) == ("engine_running", GENERATOR)] == [
                1
            ] * 3
        assert not broken(heard, LONG_SECONDS)
        told.append(f"{num_short} short and {len(heard)} long streams whole")
        await asyncio.to_thread(until, "one runs", lambda: running() <= 1 and not stopping())
        await asyncio.to_thread(until, "none runs", lambda: not replica_states(GENERATOR))
        note("none", began)
        began = time.monotonic()
        heard.clear()
        await listen(client, 1)
        note("the first answer from none", began)
        assert not broken(heard, 1)
    sys.stdout.write(f"\n{'; '.join(told)}\n")
