"""An open connection: what is no input, too many inputs, none for too long."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import msgpack
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from serve_app.api.auth import Authentication
from serve_app.api.fal.realtime import RealtimeApi, _buffer_size, _Inbox
from serve_app.api.fal.scene_reader import SceneReader
from serve_app.api.places import Places
from serve_app.api.sockets import socket_places
from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings
from serve_app.speech.service import SpeechService

PATH = "/fal/run/fal-ai/csm-1b/realtime"


class RefusingReader:
    """Remembers the inputs, and takes none."""

    def __init__(self) -> None:
        self.read: list[dict[str, Any]] = []

    async def from_message(self, values: dict[str, Any], connection: object) -> None:
        self.read.append(values)
        raise InvalidRequest("scene", "is refused")


@pytest.fixture
def reader() -> RefusingReader:
    return RefusingReader()


def client(reader: RefusingReader, idle_seconds: float = 60.0) -> TestClient:
    api = RealtimeApi(cast(SceneReader, reader), cast(SpeechService, None), idle_seconds=idle_seconds)
    app = Starlette(routes=api.router().routes)
    app.add_middleware(Authentication, keys=None)
    return TestClient(app)


def free(num_bytes: int) -> AbstractContextManager[None]:
    """Any message may wait."""
    return nullcontext()


def test_a_connection_without_inputs_is_closed_with_fals_word_for_it(reader: RefusingReader) -> None:
    with client(reader, idle_seconds=0.05).websocket_connect(PATH) as socket:
        told = socket.receive_json()
        assert (told["type"], told["error"]) == ("x-fal-error", "TIMEOUT")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1000


@pytest.mark.parametrize(
    "message", [b"", b"\xc1", b"\x01\x02", b"\x81", b"\x91" * 2000, msgpack.packb([1]), b"\xa1\xff"]
)
def test_what_is_no_input_is_said_and_the_connection_goes_on(reader: RefusingReader, message: bytes) -> None:
    with client(reader).websocket_connect(PATH) as socket:
        socket.send_bytes(message)
        assert socket.receive_json()["error"] == "BAD_REQUEST"
        socket.send_bytes(msgpack.packb({"scene": []}) or b"")
        assert socket.receive_json()["reason"] == "scene: is refused"
    assert reader.read == [{"scene": []}]


def test_an_input_may_be_json(reader: RefusingReader) -> None:
    with client(reader).websocket_connect(PATH) as socket:
        socket.send_text('{"scene": [1]}')
        told = socket.receive_json()
    assert told["detail"] == [{"loc": ["body", "scene"], "msg": "is refused", "type": "value_error"}]
    assert reader.read == [{"scene": [1]}]


async def test_of_inputs_that_wait_the_latest_are_kept() -> None:
    class Socket:
        def __init__(self) -> None:
            self.messages = [{"type": "websocket.receive", "text": str(number)} for number in range(5)]

        async def receive(self) -> dict[str, str]:
            return self.messages.pop(0) if self.messages else {"type": "websocket.disconnect"}

    inbox = _Inbox(2, free)
    await inbox.fill(cast(WebSocket, Socket()))
    assert [await inbox.next(), await inbox.next()] == ["3", "4"]


@pytest.mark.parametrize(
    ("asked", "size"),
    [(None, 2), ("1", 1), ("0", 1), ("60", 60), ("100", 60), ("9" * 5000, 60), ("x", 2), ("-1", 2), ("", 2)],
)
def test_the_buffer_is_as_large_as_was_asked_within_bounds(asked: str | None, size: int) -> None:
    assert _buffer_size(asked) == size


async def test_inputs_that_wait_take_no_more_memory_than_one_request_may() -> None:
    class Socket:
        def __init__(self) -> None:
            self.sizes: list[int] = []

        async def receive(self) -> dict[str, Any]:
            if not self.sizes:
                return {"type": "websocket.disconnect"}
            return {"type": "websocket.receive", "bytes": bytes(self.sizes.pop(0) * 2**20)}

    socket, inbox = Socket(), _Inbox(60, free)
    socket.sizes = [20, 20, 10]
    await inbox.fill(cast(WebSocket, socket))
    assert [len(await inbox.next()) // 2**20 for _ in range(2)] == [20, 10]
    socket.sizes = [10, 40]
    await inbox.fill(cast(WebSocket, socket))
    assert len(await inbox.next()) // 2**20 == 40  # alone: the socket's own limit lets it through


def test_a_socket_too_many_is_told_and_closed_and_gives_its_place_back(reader: RefusingReader) -> None:
    api = RealtimeApi(cast(SceneReader, reader), cast(SpeechService, None), socket_places(LimitSettings(max_sockets=1)))
    app = Starlette(routes=api.router().routes)
    app.add_middleware(Authentication, keys=None)
    http = TestClient(app)
    with http.websocket_connect(PATH):
        with http.websocket_connect(PATH) as second:
            assert second.receive_json()["error"] == "RATE_LIMITED"
            with pytest.raises(WebSocketDisconnect) as closed:
                second.receive_json()
        assert closed.value.code == 1013
    with http.websocket_connect(PATH) as third:
        third.send_text('{"scene": []}')
        assert third.receive_json()["reason"] == "scene: is refused"


async def test_inputs_of_one_key_that_wait_are_bounded_over_all_its_sockets() -> None:
    class Socket:
        def __init__(self) -> None:
            self.left = 2

        async def receive(self) -> dict[str, Any]:
            self.left -= 1
            return {"type": "websocket.receive" if self.left >= 0 else "websocket.disconnect", "bytes": bytes(10)}

    places = Places("bytes of inputs", 100, 35)
    first, second = (_Inbox(60, partial(places.taken, "key")) for _ in range(2))
    await first.fill(cast(WebSocket, Socket()))
    await second.fill(cast(WebSocket, Socket()))
    assert first.refusal is None and second.refusal is not None
    first.close()
    second.close()
    with places.taken("key", 35):
        pass
