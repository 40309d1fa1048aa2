"""One socket, from its first message to its last: what comes, what goes, and how it ends."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from serve_app.api.auth import key_still_good
from serve_app.api.elevenlabs.context import Context
from serve_app.api.elevenlabs.errors import ElevenLabsError, described
from serve_app.api.elevenlabs.messages import SocketMessage, SocketQuery, error_message, message_in, named
from serve_app.api.elevenlabs.output_formats import coding_named
from serve_app.api.elevenlabs.schema import ElevenLabsVoiceSettings, asked
from serve_app.api.elevenlabs.texts import ONLY, Texts
from serve_app.api.elevenlabs.voices import turn_with
from serve_app.api.sockets import INTERNAL_ERROR, NORMAL_CLOSURE, POLICY_VIOLATION
from serve_app.api.streaming import while_connected
from serve_app.errors import CsmServeError
from serve_app.keys.key import Scope
from serve_app.settings import Settings
from serve_app.speech.live.cutter import Schedule
from serve_app.speech.service import SpeechService

_NO_TEXT = ElevenLabsError(
    status="input_timeout_exceeded",
    code="input_timeout_exceeded",
    message='no text came within inactivity_timeout: send {"text": ""} at the end, or a space to keep it open',
)


class Talk:
    """A `texts.Owner`."""

    def __init__(
        self,
        socket: WebSocket,
        speech: SpeechService,
        settings: Settings,
        query: SocketQuery,
        voice_id: str,
        is_multi: bool,
    ) -> None:
        self._socket = socket
        self._speech = speech
        self._settings = settings
        self._query = query
        self._voice_id = voice_id
        self._is_multi = is_multi
        self._texts = Texts(self, is_multi)
        self._code = INTERNAL_ERROR
        self._failure: CsmServeError | None = None
        self._is_over = asyncio.Event()
        self._sending = asyncio.Lock()
        self._news = asyncio.Event()

    async def run(self) -> int:
        """The code to close with. Raises ClientDisconnect, and errors that end the socket."""
        try:
            async with while_connected(self._receive):
                await self._until_over()
        finally:
            await self._texts.cancel()
        if self._failure is not None:
            raise self._failure
        return self._code

    async def open(self, context_id: str, message: SocketMessage) -> tuple[Context, Coroutine[Any, Any, None]]:
        key = await key_still_good(self._socket)
        key.require(Scope.SPEECH)
        settings = message.voice_settings or ElevenLabsVoiceSettings()
        coding = coding_named(self._query.output_format, settings.speed)
        schedule = Schedule(least_chars=tuple(message.generation_config.chunk_length_schedule))
        turn = await turn_with(self._voice_id, "", self._speech, key)
        wish = asked(self._query.body(settings), turn, self._settings)
        scene, text = await self._speech.live(wish, self._settings, schedule, key)
        context = Context(scene, text, coding, self._query)
        return context, context.speak(self._speech, key, partial(self.send, context_id))

    async def send(self, context_id: str | None, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_json(message | (named(context_id) if self._is_multi else {}))
        self._news.set()

    async def failed(self, context_id: str | None, error: CsmServeError) -> None:
        """A context's error leaves the others alone. That of the only text ends the socket."""
        if not self._is_multi:
            self._failure = error
            self._is_over.set()
            self._news.set()
            return
        told = described(error)[1]
        await self.send(context_id, error_message(told, POLICY_VIOLATION) | {"error": f"{told.status}: {told.message}"})
        self._texts.end(context_id)

    def ended(self) -> None:
        if self._texts.are_done and not self._is_over.is_set():
            self._code = NORMAL_CLOSURE
            self._is_over.set()
        self._news.set()

    async def _until_over(self) -> None:
        while not self._is_over.is_set():
            self._news.clear()
            try:
                async with asyncio.timeout(self._query.inactivity_seconds):
                    await self._news.wait()
            except TimeoutError:
                if not self._texts.is_busy:
                    await self._give_up()

    async def _give_up(self) -> None:
        """Nothing was sent either way for `inactivity_timeout`."""
        if self._is_multi and self._texts.end_open():
            return
        self._code = NORMAL_CLOSURE if self._is_multi else POLICY_VIOLATION
        if not self._is_multi:
            await self.send(None, error_message(_NO_TEXT, self._code))
        self._is_over.set()

    async def _receive(self) -> None:
        """Return when the client has left."""
        try:
            while (received := await self._socket.receive())["type"] == "websocket.receive":
                await self._read(received.get("text") or received.get("bytes") or b"")
                self._news.set()
        except WebSocketDisconnect:
            return  # while it was being answered
        finally:
            self._is_over.set()
            self._news.set()

    async def _read(self, data: bytes | str) -> None:
        context_id = None if self._is_multi else ONLY
        try:
            message = message_in(data)
            context_id = message.context_id if self._is_multi else ONLY
            await self._texts.take(message)
        except CsmServeError as error:
            await self.failed(context_id, error)
        if self._texts.are_done:
            self.ended()
