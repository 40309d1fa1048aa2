"""A server under attack, as somebody hears it who has nothing to do with it; and what the attack leaves behind."""

import asyncio
import base64
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import httpx
import psutil

from tests.support.made_up_clips import encoded, sine
from tests.support.ray_server import Server
from tests.support.server_process import ROOT
from tests.support.stand_in_graph import held, server_processes

MOST_TIMES_SLOWER = 2.0
MEASURED = 25
_FLOOR_SECONDS = 0.025
"""Of a calm first audio. It is about what an idle machine of two cores needs, so only a faster machine has more room
than twice its own; there, waking a process takes a large part of the time, and differs from run to run."""
_ONSET_SECONDS = 1.5
"""The attacker's interpreter starts."""
_LEFT_SECONDS = 60
MOST_MB = {"ProxyActor": 900, "Ingress": 1600, "other": 1600}
"""Memory that a process may take under attack: what its bounds add up to, and what it takes when it is calm."""


Brings = Literal["nothing", "clip", "url"]


@dataclass(slots=True)
class Bystander:
    """Somebody with another key, who asks for a short text again and again; with a new clip each time, if need be."""

    server: Server
    key: str
    num_clips: int = 0

    async def hear(self, times: int, brings: Brings = "nothing", every_seconds: float = 0.0) -> list[float]:
        """The waits for the first audio. A request comes so often, or as soon as the one before it is heard."""
        headers = {"Authorization": f"Bearer {self.key}"}
        waits = []
        async with (
            httpx.AsyncClient(base_url=self.server.url, headers=headers, timeout=120) as client,
            clip_host() as url_of,
        ):
            began_at = time.monotonic()
            for number in range(times):
                await asyncio.sleep(max(0.0, began_at + number * every_seconds - time.monotonic()))
                waits.append(await self._first_audio(client, self._context(brings, url_of)))
        return waits

    def _context(self, brings: Brings, url_of: Callable[[bytes], str]) -> list[dict[str, str]]:
        if brings == "nothing":
            return []
        self.num_clips += 1
        clip = encoded(sine(24_000, 1.0 + self.num_clips / 24_000), 24_000, "WAV")
        audio = url_of(clip) if brings == "url" else base64.b64encode(clip).decode()
        return [{"text": "Before.", "audio": audio}]

    async def _first_audio(self, client: httpx.AsyncClient, context: list[dict[str, str]]) -> float:
        body = {"text": "Hello.", "streaming": True, "max_audio_seconds": 0.4, "temperature": 0, "context": context}
        asked_at, heard_at, num_bytes = time.monotonic(), 0.0, 0
        async with client.stream("POST", "/generate", json=body) as answer:
            assert answer.status_code == 200, (answer.status_code, await answer.aread())
            async for read in answer.aiter_raw():
                num_bytes += len(read)
                heard_at = heard_at or (time.monotonic() if num_bytes > 44 else 0.0)
        assert num_bytes > 44, "no sound"
        return heard_at - asked_at


@asynccontextmanager
async def clip_host() -> AsyncIterator[Callable[[bytes], str]]:
    """Gives a clip an address at which it can be fetched."""
    clips: dict[str, bytes] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(clips[path]) + clips[path])
        await writer.drain()
        writer.close()

    def address(clip: bytes) -> str:
        clips[path := f"/{len(clips)}.wav"] = clip
        return f"http://127.0.0.1:{port}{path}"

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield address


@dataclass(slots=True)
class Watched:
    """The processes of the graph and the proxy, from now on."""

    names: dict[int, str] = field(default_factory=lambda: {p.pid: p.name() for p in server_processes()})
    peak_mb: Counter[int] = field(default_factory=Counter)

    async def keep_looking(self) -> None:
        while True:
            for process in server_processes():
                self.peak_mb[process.pid] = max(self.peak_mb[process.pid], process.memory_info().rss // 2**20)
            await asyncio.sleep(0.3)

    def lost(self) -> dict[int, str]:
        """Processes that were there and are not any more."""
        living = {process.pid for process in server_processes()}
        return {pid: name for pid, name in self.names.items() if pid not in living}

    def too_large(self) -> dict[str, int]:
        over = {}
        for pid, peak in self.peak_mb.items():
            name = self.names.get(pid, "other")
            bound = next((most for part, most in MOST_MB.items() if part in name), MOST_MB["other"])
            if peak > bound:
                over[name] = peak
        return over


@dataclass(frozen=True, slots=True)
class Result:
    calm: float
    """Median wait for the first audio, in seconds."""
    attacked: float
    longest: float
    """Of the waits under attack."""
    seen: dict[str, int]
    peak_mb: int

    def line(self, name: str) -> str:
        times = self.attacked / self.calm
        calm, attacked, longest = (round(seconds * 1000) for seconds in (self.calm, self.attacked, self.longest))
        waits = f"first audio {calm} ms calm, {attacked} ms attacked ({times:.2f} x), {longest} ms at most"
        return f"\n{name}: {waits}, largest process {self.peak_mb} MB, the attacker saw {self.seen}\n"

    def assert_not_slower(self) -> None:
        bound = MOST_TIMES_SLOWER * max(self.calm, _FLOOR_SECONDS)
        assert self.attacked <= bound, f"first audio after {self.attacked:.3f} s, calm it is {self.calm:.3f} s"


async def under_attack(
    server: Server, attacker_key: str, bystander: Bystander, name: str, seconds: float, brings: Brings
) -> Result:
    """Calm, attacked and calm again. Asserts all but the speed: memory, replicas, and what is left behind."""
    await bystander.hear(3, brings)
    watched, before = Watched(), open_connections(server)
    looking = asyncio.create_task(watched.keep_looking())
    # As often in calm as under attack: what comes after a pause finds colder caches.
    every_seconds = (seconds - _ONSET_SECONDS) / MEASURED
    calm = await bystander.hear(MEASURED // 2, brings, every_seconds)
    attack = await asyncio.create_subprocess_exec(
        *(
            "nice",
            "-n",
            "5",
            sys.executable,
            "-m",
            "tests.support.attacks",
            name,
            server.url,
            attacker_key,
            str(seconds),
        ),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    try:
        await asyncio.sleep(_ONSET_SECONDS)
        attacked = await bystander.hear(MEASURED, brings, every_seconds)
        output, _ = await asyncio.wait_for(attack.communicate(), seconds + 120)
    finally:
        if attack.returncode is None:
            attack.kill()
    assert attack.returncode == 0, f"the attacker failed with {attack.returncode}"
    calm += await bystander.hear(MEASURED - len(calm), brings, every_seconds)
    looking.cancel()
    assert not (lost := watched.lost()), f"replaced: {lost}"
    assert not (large := watched.too_large()), f"too much memory, in MB: {large}"
    await _until(lambda: not held(server), lambda: f"held still: {held(server)}")
    await _until(lambda: open_connections(server) <= before + 2, lambda: f"{open_connections(server)} connections")
    seen = json.loads(output.decode().strip().splitlines()[-1])[name]
    peak_mb = max(watched.peak_mb.values())
    return Result(statistics.median(calm), statistics.median(attacked), max(attacked), seen, peak_mb)


async def _until(is_so: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + _LEFT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"a minute after the attack: {what()}"
        await asyncio.sleep(0.3)


def open_connections(server: Server) -> int:
    """Of clients at the proxy, on the server's side."""
    port = int(server.url.rpartition(":")[2])
    return sum(
        c.laddr.port == port and c.status not in (psutil.CONN_LISTEN, psutil.CONN_TIME_WAIT)
        for c in psutil.net_connections("tcp")
        if c.laddr and c.pid
    )
