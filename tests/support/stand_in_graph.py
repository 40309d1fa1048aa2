"""The whole graph with stand-ins for its models, several replicas each; what it speaks is known beforehand, and what
it holds can be read."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil
import pytest

from serve_app.codec.stand_in import StandInSlots
from serve_app.deployments import options
from serve_app.engine.stand_in import frame_codes
from serve_app.messages import FRAME_SAMPLES
from serve_app.settings import Settings, StandInSettings
from tests.support.ray_server import Server, shared_ray

TEXT = "A long story that is told to the end whatever happens and " * 8 + "then it is over."
"""One sentence, so that it is one utterance, of whose length only the request decides."""
_HELD = ("requests_live", "engine_running", "engine_waiting", "engine_streams", "decoder_busy", "decoder_streams")
_HEADER, _BYTES_A_SECOND = 44, 48_000
_SAMPLE = re.compile(r'ray_csm_(\w+)\{.*?deployment="(\w+)".*?replica="(\w+)".*?\} (\S+)')


@contextmanager
def running(settings: Settings, num_replicas: int) -> Iterator[Server]:
    """Generator and decoder have `num_replicas` each. Values of metrics are half a second old."""
    from serve_app.app import build_graph

    several = {
        name: values | ({"num_replicas": num_replicas} if name in ("TokenGenerator", "AudioDecoder") else {})
        for name, values in options.deployment_options(settings).items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve_app.app.deployment_options", lambda _: several)
        graph = build_graph(settings)
    yield shared_ray.serving(f"{num_replicas} replicas, {settings.model}", lambda: graph)
    shared_ray.clear()


def expected_sound(seed: int, num_frames: int) -> bytes:
    """What an undisturbed stream sounds like: neighbouring frames differ, so a lost or doubled one shows."""
    codes = frame_codes(np.full(num_frames, seed), np.arange(num_frames), 32)
    slots = StandInSlots(StandInSettings(), 1)
    slot = slots.open()
    assert slot is not None
    return slots.decode({slot: codes})[slot].tobytes()


def first_difference(sound: bytes, expected: bytes) -> str:
    """Where a stream leaves what was expected, and how many frames it jumps there (up to the tones' period)."""
    size = 2 * FRAME_SAMPLES
    frames, wanted = ([part[at : at + size] for at in range(0, len(part), size)] for part in (sound, expected))
    pairs = enumerate(zip(frames, wanted, strict=False))
    frame = next((number for number, (got, want) in pairs if got != want), min(len(frames), len(wanted)))
    heard = frames[frame] if frame < len(frames) else b""
    jump = wanted.index(heard) - frame % 32 if heard in wanted else None
    return f"{len(frames)} of {len(wanted)} frames, different from frame {frame} on, a jump of {jump}"


@dataclass(slots=True)
class Heard:
    """One stream as its client got it."""

    status: int = 0
    finish: str = ""
    sound: bytes = b""
    read_at: list[float] = field(default_factory=list)
    read_bytes: list[int] = field(default_factory=list)
    """Of all reads up to each of `read_at`."""

    @property
    def latest_seconds(self) -> float:
        """How late the latest sound came, for a player that begins with the first of it."""
        began = next((at for at, total in zip(self.read_at, self.read_bytes, strict=True) if total > _HEADER), 0.0)
        played = zip(self.read_at[1:], self.read_bytes, strict=False)
        return max((at - began - (before - _HEADER) / _BYTES_A_SECOND for at, before in played), default=0.0)

    @property
    def longest_gap(self) -> float:
        return max((b - a for a, b in zip(self.read_at, self.read_at[1:], strict=False)), default=0.0)


async def speak(client: httpx.AsyncClient, server: Server, seed: int, seconds: float, heard: Heard) -> Heard:
    """To the end; `heard` grows meanwhile."""
    body = {"text": TEXT, "seed": seed, "streaming": True, "max_audio_seconds": seconds}
    async with client.stream("POST", f"{server.url}/generate", json=body, timeout=120) as response:
        heard.status = response.status_code
        async for read in response.aiter_raw():
            heard.sound += read
            heard.read_at.append(time.monotonic())
            heard.read_bytes.append(len(heard.sound))
    outcome = await client.get(f"{server.url}/requests/{response.headers['x-request-id']}")
    heard.finish = outcome.json()["finish_reason"]
    return heard


def replica_processes(deployment: str = "") -> list[psutil.Process]:
    """Of the Ray that this process started, whatever else runs on the machine."""
    return _processes(f"ray::ServeReplica:csm:{deployment}")


def server_processes() -> list[psutil.Process]:
    """The replicas and the proxy."""
    return [*replica_processes(), *_processes("ray::ProxyActor")]


def _processes(title: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
    return found


def memory_mb() -> dict[int, float]:
    """Of the replicas and the proxy, by process."""
    return {process.pid: process.memory_info().rss / 2**20 for process in server_processes()}


def growth_mb(before: dict[int, float]) -> dict[str, float]:
    """Of those that live still."""
    return {
        f"{psutil.Process(pid).name().rpartition(':')[2]} {pid}": round(now - before[pid], 1)
        for pid, now in memory_mb().items()
        if pid in before
    }


async def until_running(deployment: str, num_replicas: int) -> None:
    from ray import serve

    for _ in range(600):
        status = serve.status().applications["csm"].deployments[deployment]
        if min(status.replica_states.get("RUNNING", 0), len(replica_processes(deployment))) >= num_replicas:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no {num_replicas} replicas of {deployment} after a minute")


def samples(server: Server) -> list[tuple[str, str, str, float]]:
    """(metric, deployment, replica, value) of all that is published with these labels."""
    text = httpx.get(f"{server.url}/metrics", timeout=10).text
    return [(name, where, replica, float(value)) for name, where, replica, value in _SAMPLE.findall(text)]


def held(server: Server) -> dict[str, float]:
    """What living replicas hold that is not nothing, by metric and replica."""
    from ray.util import list_named_actors

    living = {actor["name"].rpartition("#")[2] for actor in list_named_actors(all_namespaces=True)}
    return {
        f"{name} of {where} {replica}": value
        for name, where, replica, value in samples(server)
        if name in _HELD and replica in living and value
    }


async def until_nothing_is_held(server: Server) -> None:
    deadline = time.monotonic() + 20
    while left := held(server):
        assert time.monotonic() < deadline, f"still held twenty seconds after everybody left: {left}"
        await asyncio.sleep(0.5)
