"""Clients that mean harm, for servers on this machine alone: `python -m tests.support.attacks NAME URL KEY SECONDS`.
NAME may be `all`.

Each is bounded in connections and in time, and says at its end what it saw, as one line of JSON. It runs in a process
of its own, so that its cost is not the measured client's.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import websockets

Attack = Callable[["Site"], Coroutine[Any, Any, None]]
_CHUNK = b"a" * 32_768


@dataclass(slots=True)
class Site:
    """What is attacked, with whose key, and until when; and what was seen."""

    url: str
    key: str
    until: float
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    def head(self, path: str, *more: str, method: str = "POST") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.key}", *more]
        return "".join(f"{line}\r\n" for line in lines).encode()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        where = urlsplit(self.url)
        assert where.hostname == "127.0.0.1", "only this machine is attacked"
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=60, limits=limits)


async def _many(count: int, one: Callable[[], Awaitable[None]], site: Site) -> None:
    """So many at once, each once at least, and again until the time is over."""

    async def keep_on() -> None:
        is_first = True
        while is_first or not site.is_over:
            is_first = False
            started = time.monotonic()
            try:
                async with asyncio.timeout(max(site.until - started, 1.0)):
                    await one()
            except TimeoutError:
                site.seen["held until the end"] += 1
            except (OSError, httpx.TransportError, asyncio.IncompleteReadError, websockets.WebSocketException):
                site.seen["cut off"] += 1
                # A refused client that comes back at once is a flood of connections, which is not what is tried here.
            await asyncio.sleep(max(0.0, 0.1 - (time.monotonic() - started)))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(keep_on())


async def _drip(site: Site, start: bytes) -> None:
    async with site.connection() as (reader, writer):
        writer.write(start)
        while not reader.at_eof():
            writer.write(b"a")
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1024), 0.5)
        site.seen["cut off"] += 1


async def header_drip(site: Site) -> None:
    await _many(200, lambda: _drip(site, site.head("/generate") + b"X-Slow: "), site)


async def slow_body(site: Site) -> None:
    start = site.head("/generate", "Content-Type: application/json", "Content-Length: 1000000")
    await _many(200, lambda: _drip(site, start + b"\r\n"), site)


async def idle_connections(site: Site) -> None:
    await _many(500, lambda: _read_to_end(site, b""), site)


async def _read_to_end(site: Site, start: bytes) -> None:
    async with site.connection() as (reader, writer):
        writer.write(start)
        await reader.read()


async def endless_header(site: Site) -> None:
    async def one() -> None:
        async with site.connection() as (reader, writer):
            writer.write(site.head("/generate") + b"X-Endless: ")
            while not reader.at_eof():
                writer.write(_CHUNK)
                await writer.drain()
                await asyncio.sleep(0.001)  # as over a network of 30 MB a second

    await _many(4, one, site)


async def unread_downloads(site: Site) -> None:
    async with site.client() as client:
        stored = await client.post("/fal/cdn/files/upload", content=bytes(24 * 2**20))
        if not stored.is_success:  # the disk may be full of another attack's files
            site.seen[str(stored.status_code)] += 1
            return
        path = urlsplit(stored.json()["access_url"]).path

        async def one() -> None:
            async with site.connection() as (_, writer):
                writer.write(site.head(path, method="GET") + b"\r\n")
                await asyncio.sleep(max(site.until - time.monotonic(), 0))

        await _many(24, one, site)
        site.seen[f"deleted: {(await client.delete(path)).status_code}"] += 1


async def _posts(site: Site, count: int, path: str, **body: Any) -> None:
    async with site.client() as client:

        async def one() -> None:
            answer = await client.post(path, **body)
            site.seen[str(answer.status_code)] += 1

        await _many(count, one, site)


async def json_bombs(site: Site) -> None:
    body = b'{"text": "a", "context": [' + b"0," * 2_400_000 + b"0]}"
    await _posts(site, 4, "/generate", content=body, headers={"content-type": "application/json"})


async def fal_bombs(site: Site) -> None:
    body = b'{"scene": [' + b"{}," * 500_000 + b"{}]}"
    await _posts(site, 4, "/fal/run/fal-ai/csm-1b", content=body, headers={"content-type": "application/json"})


async def form_bombs(site: Site) -> None:
    body = "&".join(["text=a"] * 400_000).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    await _posts(site, 4, "/generate", content=body, headers=headers)


async def _with_socket(site: Site, use: Callable[[websockets.ClientConnection], Awaitable[None]]) -> None:
    url = f"{site.url.replace('http', 'ws', 1)}/fal/run/fal-ai/csm-1b/realtime"
    async with websockets.connect(url, additional_headers=site.headers, max_size=None) as socket:
        await use(socket)


async def msgpack_bombs(site: Site) -> None:
    bomb = b"\xdd\x00\x98\x96\x80" + b"\x90" * 10_000_000  # ten million empty lists

    async def use(socket: websockets.ClientConnection) -> None:
        await socket.send(bomb)
        answer = await socket.recv()
        site.seen["answered" if b"error" in (answer if isinstance(answer, bytes) else answer.encode()) else "?"] += 1

    await _many(4, lambda: _with_socket(site, use), site)


async def sockets(site: Site) -> None:
    async def use(socket: websockets.ClientConnection) -> None:
        await socket.send(bytes(2**20))
        async for _ in socket:
            site.seen["messages"] += 1
        site.seen[f"closed: {socket.close_code}"] += 1

    await _many(100, lambda: _with_socket(site, use), site)


def _with_context(num_clips: int, seconds: float, rate: int) -> dict[str, Any]:
    import base64

    from tests.support.made_up_clips import encoded, sine

    clip = base64.b64encode(encoded(sine(rate, seconds, 2), rate, "MP3")).decode()
    return {"text": "Hello.", "max_audio_seconds": 1, "context": [{"text": "Before.", "audio": clip}] * num_clips}


async def decode_flood(site: Site) -> None:
    await _posts(site, 24, "/generate", json=await asyncio.to_thread(_with_context, 4, 60, 44_100))


async def context_flood(site: Site) -> None:
    await _posts(site, 4, "/generate", json=await asyncio.to_thread(_with_context, 16, 20, 24_000))


async def request_flood(site: Site) -> None:
    """More long answers at once than the server has slots and places to wait."""
    await _posts(site, 60, "/generate", json={"text": "It goes on and on. " * 20, "max_audio_seconds": 20})


@asynccontextmanager
async def _black_hole(site: Site) -> AsyncIterator[int]:
    """The port of somebody who takes calls and says nothing."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        site.seen["calls"] += 1
        with suppress(asyncio.CancelledError):  # asyncio would report it, at the end
            await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as hole:
        yield hole.sockets[0].getsockname()[1]
        hole.close()


async def slow_hosts(site: Site) -> None:
    """Context at addresses where a call is taken and never answered."""
    async with _black_hole(site) as port:
        context = [{"text": "Before.", "audio": f"http://127.0.0.1:{port}/{number}.wav"} for number in range(16)]
        await _posts(site, 40, "/generate", json={"text": "Hello.", "max_audio_seconds": 1, "context": context})


async def status_streams(site: Site) -> None:
    """Far more of them than a key may have, over plain sockets. The refused ones come again ten times a second each.

    The job waits for a host that never answers. So it takes no processor, and what is felt is the streams.
    """
    queue = "/fal/queue/fal-ai/csm-1b"
    async with _black_hole(site) as port, site.client() as client:
        context = [{"prompt": "Before.", "speaker_id": 0, "audio_url": f"http://127.0.0.1:{port}/a.wav"}]
        submitted = await client.post(queue, json=_scene(1, "Hello.") | {"context": context})
        if not submitted.is_success:
            site.seen[str(submitted.status_code)] += 1
            return
        job = f"{queue}/requests/{submitted.json()['request_id']}"
        start = site.head(f"{job}/status/stream", "Connection: close", method="GET") + b"\r\n"

        async def one() -> None:
            async with site.connection() as (reader, writer):
                writer.write(start)
                site.seen[(await reader.readuntil(b"\r\n")).split()[1].decode()] += 1
                await reader.read()

        await _many(300, one, site)
        await client.put(f"{job}/cancel")


def _scene(seconds: float, text: str = "It goes on and on. " * 40) -> dict[str, Any]:
    return {"scene": [{"text": text, "speaker_id": 0}], "max_audio_seconds": seconds}


async def webhook_black_holes(site: Site) -> None:
    """Jobs whose webhooks go to somebody who takes the call and says nothing."""
    async with _black_hole(site) as port, site.client() as client:
        left = iter(range(100))

        async def one() -> None:
            if (number := next(left, None)) is None:
                await asyncio.sleep(max(site.until - time.monotonic(), 0))
                return
            hook = {"fal_webhook": f"http://127.0.0.1:{port}/{number}"}
            answer = await client.post("/fal/queue/fal-ai/csm-1b", params=hook, json=_scene(0.2, f"Job {number}."))
            site.seen[str(answer.status_code)] += 1

        await _many(4, one, site)


async def fill_disk(site: Site) -> None:
    paths: list[str] = []
    async with site.client() as client:

        async def one() -> None:
            answer = await client.post("/fal/cdn/files/upload", content=bytes(4 * 2**20))
            site.seen[str(answer.status_code)] += 1
            if answer.is_success:
                paths.append(urlsplit(answer.json()["access_url"]).path)

        await _many(4, one, site)
        for path in paths:
            site.seen[f"deleted: {(await client.delete(path)).status_code}"] += 1


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        header_drip,
        endless_header,
        slow_body,
        idle_connections,
        unread_downloads,
        json_bombs,
        fal_bombs,
        form_bombs,
        msgpack_bombs,
        decode_flood,
        context_flood,
        slow_hosts,
        request_flood,
        sockets,
        status_streams,
        webhook_black_holes,
        fill_disk,
    )
}


async def _tolerant(attack: Attack, site: Site) -> None:
    """A server that cuts an attack off at its start has defended itself."""
    try:
        await attack(site)
    except (OSError, httpx.TransportError):
        site.seen["cut off"] += 1


async def _together(sites: dict[str, Site]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for name, site in sites.items():
            tasks.create_task(_tolerant(ATTACKS[name], site))


def main() -> None:
    name, url, key, seconds = sys.argv[1:]
    sites = {each: Site(url, key, time.monotonic() + float(seconds)) for each in ATTACKS if name in (each, "all")}
    asyncio.run(_together(sites))
    sys.stdout.write(json.dumps({each: site.seen for each, site in sites.items()}) + "\n")


if __name__ == "__main__":
    main()
