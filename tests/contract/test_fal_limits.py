"""What stays open is bounded: downloads that nobody reads, and status streams."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from serve_app.settings import LimitSettings
from tests.support.contract_server import Server, serving
from tests.support.waiting import until

MIB = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("data")
    with serving(folder, limits=LimitSettings(max_downloads=2, max_status_streams=2)) as server:
        yield server


def uploaded(server: Server, num_bytes: int) -> str:
    answer = httpx.post(f"{server.url}/fal/cdn/files/upload", content=bytes(num_bytes))
    return answer.raise_for_status().json()["url"]


def unread(url: str) -> socket.socket:
    """A download whose client takes its headers and then nothing."""
    target = httpx.URL(url)
    connection = socket.create_connection((target.host, target.port or 80))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(f"GET {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n\r\n".encode())
    assert connection.recv(12).endswith(b" 200")
    return connection


def test_downloads_that_are_not_read_keep_places_until_they_leave(server: Server) -> None:
    url = uploaded(server, 32 * MIB)
    with unread(url), unread(url):
        refused = httpx.get(url)
        assert refused.status_code == 429 and 5 <= int(refused.headers["retry-after"]) <= 7
        assert httpx.head(url).status_code == 200
    until(lambda: httpx.get(url, headers={"Range": "bytes=0-9"}).content == bytes(10), "a place is free")


def test_a_status_stream_too_many_is_refused(server: Server) -> None:
    with httpx.Client(base_url=f"{server.url}/fal/queue/fal-ai/csm-1b") as http, ExitStack() as open_streams:
        job = http.post("", json={"scene": [{"text": "stayqueued", "speaker_id": 0}]}).json()
        stream = f"{job['status_url']}/stream"
        unknown = "/requests/unknown/status/stream"
        assert [http.get(unknown).status_code for _ in range(3)] == [404] * 3
        for _ in range(2):
            assert open_streams.enter_context(http.stream("GET", stream)).status_code == 200
        # Before the database is asked: a flood of refused ones costs it nothing.
        assert http.get(stream).status_code == http.get(unknown).status_code == 429
        open_streams.close()

        def is_free() -> bool:
            with http.stream("GET", stream) as again:
                return again.status_code == 200

        until(is_free, "a place is free")
        http.put(job["cancel_url"])
