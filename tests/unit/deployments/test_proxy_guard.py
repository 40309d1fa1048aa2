"""A client that drips, floods or does not read is shown out, and the others do not notice."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from serve_app.api.door import Door
from serve_app.deployments import proxy_guard
from serve_app.deployments.proxy_guard import GuardedProtocol, install

HEAD = b"POST / HTTP/1.1\r\nHost: csm\r\n"
WHOLE = b"GET / HTTP/1.1\r\nHost: csm\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of bytes that it was sent; at /large with more than any socket buffers."""
    if scope["type"] != "http":
        return
    num_bytes, more = 0, True
    while more:
        message = await receive()
        num_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)
    headers = [header for header in scope["headers"] if header[0] == b"x-request-id"]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/large":
        for _ in range(64):
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
    await send({"type": "http.response.body", "body": str(num_bytes).encode()})


@asynccontextmanager
async def serving() -> AsyncGenerator[int, None]:
    """The port of a server as Serve starts one."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="critical"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    server.force_exit = True
    await task


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "uvicorn.protocols.http.auto:AutoHTTPProtocol")
    assert [middleware.cls for middleware in install()] == [Door]


async def answer(port: int, *parts: bytes) -> bytes:
    """What comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_it_is_what_uvicorn_takes_by_itself() -> None:
    config = uvicorn.Config(app, lifespan="off")
    config.load()
    assert config.http_protocol_class is GuardedProtocol


@pytest.mark.parametrize("sent", [b"caf\xe9", "caf\u00e9".encode()], ids=["latin-1", "utf-8"])
async def test_a_header_reaches_serve_as_utf8(sent: bytes) -> None:
    async with serving() as port:
        said = await answer(
            port, b"GET / HTTP/1.1\r\nHost: csm\r\nConnection: close\r\nX-Request-Id: " + sent + b"\r\n\r\n"
        )
    assert "x-request-id: caf\u00e9\r\n".encode() in said


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"X-Endless: ",
        b"GET /",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;extension=",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nX-Trailer: ",
        b"",
    ],
    ids=["header", "path", "chunk-extension", "trailer", "blank-lines"],
)
async def test_what_never_ends_is_refused_after_a_bounded_number_of_bytes(start: bytes) -> None:
    filler = b"\r\n" * 16_384 if not start else b"a" * 32_768
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        num_sent = 0
        try:
            while not reader.at_eof() and num_sent < 64 * 2**20:
                writer.write(filler)
                await writer.drain()
                num_sent += len(filler)
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        writer.close()
        assert num_sent < 16 * 2**20
        assert (await answer(port, HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc")).endswith(
            b"\r\n3\r\n0\r\n\r\n"
        )


async def test_many_headers_are_refused_as_one_long_one_is() -> None:
    async with serving() as port:
        heard = await answer(port, HEAD + b"X-Small: a\r\n" * 6000)
    assert heard.startswith(b"HTTP/1.1 431") or not heard


async def test_a_large_body_and_usual_headers_pass() -> None:
    size = 8 * 2**20
    cookies = b"Cookie: " + b"c" * 16_000 + b"\r\n"
    async with serving() as port:
        request = HEAD + cookies + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size
        assert (await answer(port, request, bytes(size))).endswith(b"\r\n%d\r\n0\r\n\r\n" % size)


@pytest.mark.parametrize(
    "parts", [(), (HEAD,), (WHOLE, HEAD), (HEAD + b"Content-Length: 10\r\n\r\nabc",)], ids=lambda parts: str(len(parts))
)
async def test_what_is_only_begun_is_closed(monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...]) -> None:
    monkeypatch.setattr(proxy_guard, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(proxy_guard, "BODY_SECONDS", 0.2)
    async with serving() as port:
        heard = await answer(port, *parts)
    assert heard.count(b"HTTP/1.1 200") == parts.count(WHOLE)


async def test_a_connection_that_waits_for_its_next_request_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_guard, "HEADER_SECONDS", 0.2)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(WHOLE)
            assert (await reader.readuntil(b"\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 200")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.5)
        writer.close()


async def test_an_answer_that_is_not_read_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_guard, "STALLED_SECONDS", 0.2)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nHost: csm\r\n\r\n")
        await asyncio.sleep(1.0)
        received = 0
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            while True:
                received += len(await reader.readexactly(65_536))
        assert received < 64 * 2**20
        writer.close()


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_guard, "MAX_CONNECTIONS", 2)
    async with serving() as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await answer(port, WHOLE) == b""
        for _, writer in held:
            writer.close()
