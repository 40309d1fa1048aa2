"""Scenes over one WebSocket, in MessagePack: an input message in, then chunks of sound and the output back."""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, aclosing, closing, suppress
from functools import partial
from typing import Any

import msgpack
from fastapi import APIRouter, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from serve_app.api.auth import key_of, key_still_good
from serve_app.api.bounded import read_json, read_msgpack
from serve_app.api.fal.errors import error_content, sentence, validation_content
from serve_app.api.fal.run import chunk_content
from serve_app.api.fal.scene_reader import SceneReader
from serve_app.api.fal.ways import APP, PREFIX, Surface
from serve_app.api.job_output import notices_of, output_of
from serve_app.api.places import Places
from serve_app.api.sockets import NORMAL_CLOSURE, POLICY_VIOLATION, TRY_AGAIN_LATER, socket_places
from serve_app.api.streaming import while_connected
from serve_app.errors import CsmServeError, Forbidden, InvalidRequest, Overloaded, StorageFailed, Unauthorized
from serve_app.keys.key import Key, Scope
from serve_app.settings import LimitSettings
from serve_app.speech.call import Call
from serve_app.speech.service import SpeechService

_IDLE_SECONDS = 60.0
DEFAULT_BUFFER, MAX_BUFFER = 2, 60
MAX_WAITING_BYTES = 32 * 1024 * 1024


class RealtimeApi:
    def __init__(
        self,
        reader: SceneReader,
        speech: SpeechService,
        sockets: Places | None = None,
        idle_seconds: float = _IDLE_SECONDS,
        app: str = APP,
    ) -> None:
        """sockets: counts those of all dialects together."""
        self._path = f"{PREFIX}/{Surface.RUN}{app}/realtime"
        self._sockets = sockets or socket_places(LimitSettings())
        self._waiting = Places("bytes of inputs", MAX_WAITING_BYTES * 16, MAX_WAITING_BYTES * 2)
        self._reader = reader
        self._speech = speech
        self._idle_seconds = idle_seconds

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_websocket_route(self._path, self.connect)
        return router

    async def connect(self, socket: WebSocket) -> None:
        """Speak inputs one after the other. The latest `max_buffering` inputs wait, in at most 32 MiB."""
        await socket.accept()
        try:
            key = key_of(socket, Scope.SPEECH)
        except Forbidden as error:
            await socket.send_json({"status": "error", "error": "Unauthorized", "reason": str(error)})
            await socket.close(POLICY_VIOLATION)
            return
        try:
            with self._sockets.taken(key.id):
                await self._serve(socket, key)
        except Overloaded as error:
            await _send_error(socket, "RATE_LIMITED", str(error))
            await socket.close(TRY_AGAIN_LATER)

    async def _serve(self, socket: WebSocket, key: Key) -> None:
        inbox = _Inbox(_buffer_size(socket.query_params.get("max_buffering")), partial(self._waiting.taken, key.id))
        with closing(inbox), suppress(ClientDisconnect):
            async with while_connected(partial(inbox.fill, socket)):
                await self._answer(socket, inbox)
        if inbox.refusal is not None:
            raise inbox.refusal

    async def _answer(self, socket: WebSocket, inbox: "_Inbox") -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await inbox.next()
            except TimeoutError:
                await _send_error(socket, "TIMEOUT", "no inputs, reconnect when needed!")
                await socket.close(NORMAL_CLOSURE)
                return
            try:
                key = await key_still_good(socket)
                key.require(Scope.SPEECH)
            except (Forbidden, Unauthorized) as error:
                await _send_error(socket, "UNAUTHORIZED", str(error))
                await socket.close(POLICY_VIOLATION)
                return
            except StorageFailed as error:
                await _send_error(socket, "INTERNAL_ERROR", str(error))
                continue
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
            await _send(socket, output_of(await answer.file(), notices_of(scene, answer)) | echoed)


class _Inbox:
    """Inputs that were received and not answered yet."""

    def __init__(self, size: int, bytes_taken: Callable[[int], AbstractContextManager[None]]) -> None:
        """bytes_taken: holds memory for a message while it waits, or raises Overloaded."""
        self.refusal: Overloaded | None = None
        """Why the socket must be closed: its key's messages took too much memory together."""
        self._size = size
        self._bytes_taken = bytes_taken
        self._messages: deque[tuple[bytes | str, ExitStack]] = deque()
        self._news = asyncio.Event()

    async def fill(self, socket: WebSocket) -> None:
        """Until the client leaves, or sends more than may wait."""
        while (message := await socket.receive())["type"] == "websocket.receive":
            try:
                self._add(message.get("bytes") or message.get("text") or b"")
            except Overloaded as error:
                self.refusal = error
                return

    def _add(self, message: bytes | str) -> None:
        """One input may bring as much audio as the socket takes; sixty such would be a gigabyte."""
        while self._messages and (len(self._messages) == self._size or self._num_bytes(message) > MAX_WAITING_BYTES):
            self._drop_first()
        held = ExitStack()
        held.enter_context(self._bytes_taken(len(message)))
        self._messages.append((message, held))
        self._news.set()

    def _num_bytes(self, *more: bytes | str) -> int:
        return sum(map(len, more)) + sum(len(message) for message, _ in self._messages)

    def _drop_first(self) -> bytes | str:
        message, held = self._messages.popleft()
        held.close()
        return message

    async def next(self) -> bytes | str:
        while not self._messages:
            self._news.clear()
            await self._news.wait()
        return self._drop_first()

    def close(self) -> None:
        while self._messages:
            self._drop_first()


def _buffer_size(wanted: str | None) -> int:
    if not wanted or not wanted.isdecimal():
        return DEFAULT_BUFFER
    # Python reads no number of thousands of digits.
    return min(max(int(wanted[:3]), 1), MAX_BUFFER)


def _decoded(message: bytes | str) -> dict[str, Any]:
    """JSON is read too. Raises InvalidRequest."""
    try:
        values = read_json("body", message) if isinstance(message, str) else read_msgpack("body", message)
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
