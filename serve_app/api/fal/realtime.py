"""Scenes over one WebSocket, in MessagePack: a message with the input in, chunks of sound and then the output back."""

import asyncio
import json
import uuid
from collections import deque
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import msgpack
from fastapi import APIRouter, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from serve_app.api.auth import key_of
from serve_app.api.fal.errors import error_content, sentence, validation_content
from serve_app.api.fal.run import chunk_content
from serve_app.api.fal.scene_reader import SceneReader
from serve_app.api.fal.schema import output_of
from serve_app.api.fal.ways import APP, PREFIX, Surface
from serve_app.api.streaming import while_connected
from serve_app.errors import CsmServeError, Forbidden, InvalidRequest
from serve_app.keys.key import Key, Scope
from serve_app.speech.service import Call, SpeechService

_REALTIME = f"{PREFIX}/{Surface.RUN}{APP}/realtime"
_IDLE_SECONDS = 60.0
DEFAULT_BUFFER, MAX_BUFFER = 2, 60
MAX_WAITING_BYTES = 32 * 1024 * 1024
_NORMAL_CLOSURE, _POLICY_VIOLATION = 1000, 1008


class RealtimeApi:
    def __init__(self, reader: SceneReader, speech: SpeechService, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._reader = reader
        self._speech = speech
        self._idle_seconds = idle_seconds

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_websocket_route(_REALTIME, self.connect)
        return router

    async def connect(self, socket: WebSocket) -> None:
        """Inputs are spoken one after the other; the latest `max_buffering` wait, in at most 32 MiB."""
        await socket.accept()
        try:
            key = key_of(socket, Scope.SPEECH)
        except Forbidden as error:
            await socket.send_json({"status": "error", "error": "Unauthorized", "reason": str(error)})
            await socket.close(_POLICY_VIOLATION)
            return
        inbox = _Inbox(_buffer_size(socket.query_params.get("max_buffering")))
        with suppress(ClientDisconnect):
            async with while_connected(partial(inbox.fill, socket)):
                await self._answer(socket, inbox, key)

    async def _answer(self, socket: WebSocket, inbox: "_Inbox", key: Key) -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await inbox.next()
            except TimeoutError:
                await _send_error(socket, "TIMEOUT", "no inputs, reconnect when needed!")
                await socket.close(_NORMAL_CLOSURE)
                return
            try:
                await self._speak(socket, _decoded(message), key)
            except RequestValidationError as error:
                await _send_error(socket, "BAD_REQUEST", _reason(error), **validation_content(error))
            except CsmServeError as error:
                content = error_content(error)
                await _send_error(socket, content.pop("error_type", "bad_request").upper(), sentence(error), **content)

    async def _speak(self, socket: WebSocket, values: dict[str, Any], key: Key) -> None:
        echoed = {"request_id": values["request_id"]} if isinstance(values.get("request_id"), str) else {}
        scene = await self._reader.from_message(values, socket)
        index = 0
        call = Call(str(uuid.uuid4()), key, is_streamed=True)
        async with await self._speech.open(scene, call) as answer:
            async with aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    if chunk.pcm:
                        await _send(socket, chunk_content(chunk, index) | {"audio_chunk": chunk.pcm} | echoed)
                        index += 1
            await _send(socket, output_of(await answer.file()) | echoed)


class _Inbox:
    """What came and was not answered yet."""

    def __init__(self, size: int) -> None:
        self._messages: deque[bytes | str] = deque(maxlen=size)
        self._news = asyncio.Event()

    def _make_room(self) -> None:
        """One input may bring as much audio as the socket takes; sixty such would be a gigabyte."""
        while len(self._messages) > 1 and sum(map(len, self._messages)) > MAX_WAITING_BYTES:
            self._messages.popleft()

    async def fill(self, socket: WebSocket) -> None:
        """Until the client leaves."""
        while (message := await socket.receive())["type"] == "websocket.receive":
            self._messages.append(message.get("bytes") or message.get("text") or b"")
            self._make_room()
            self._news.set()

    async def next(self) -> bytes | str:
        while not self._messages:
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()


def _buffer_size(wanted: str | None) -> int:
    if not wanted or not wanted.isdecimal():
        return DEFAULT_BUFFER
    # Python reads no number of thousands of digits.
    return min(max(int(wanted[:3]), 1), MAX_BUFFER)


def _decoded(message: bytes | str) -> dict[str, Any]:
    """JSON is read too. Raises InvalidRequest."""
    try:
        values = json.loads(message) if isinstance(message, str) else msgpack.unpackb(message)
    except (ValueError, RecursionError, msgpack.UnpackException):
        raise InvalidRequest("body", "is neither MessagePack nor JSON: send the input as one of them") from None
    if not isinstance(values, dict):
        raise InvalidRequest("body", "must be a map with the fields of the input")
    return {name: value for name, value in values.items() if isinstance(name, str)}


async def _send(socket: WebSocket, values: dict[str, Any]) -> None:
    await socket.send_bytes(msgpack.Packer().pack(values))


async def _send_error(socket: WebSocket, error: str, reason: str, **more: Any) -> None:
    await socket.send_json({"type": "x-fal-error", "error": error, "reason": reason} | more)


def _reason(error: RequestValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
