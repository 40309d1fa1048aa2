"""One socket, from its first message to its last: the texts that come over it, and their speech."""

import asyncio
import logging
from functools import partial
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from serve_app.api.auth import key_still_good
from serve_app.api.elevenlabs.context import Context, cancelled
from serve_app.api.elevenlabs.errors import ElevenLabsError, described
from serve_app.api.elevenlabs.messages import SocketMessage, SocketQuery, error_message, message_in, named
from serve_app.api.elevenlabs.output_formats import coding_named
from serve_app.api.elevenlabs.schema import ElevenLabsVoiceSettings, asked
from serve_app.api.elevenlabs.voices import turn_with
from serve_app.api.sockets import INTERNAL_ERROR, NORMAL_CLOSURE, POLICY_VIOLATION
from serve_app.api.streaming import while_connected
from serve_app.errors import CsmServeError, InternalError, InvalidRequest, Overloaded
from serve_app.keys.key import Scope
from serve_app.settings import Settings
from serve_app.speech.live.cutter import Schedule
from serve_app.speech.service import SpeechService

_log = logging.getLogger(__name__)
_MAX_CONTEXTS = 16
_ONLY = ""
"""The context of a socket that has one text."""
_NO_TEXT = ElevenLabsError(
    status="input_timeout_exceeded",
    code="input_timeout_exceeded",
    message='no text came within inactivity_timeout: send {"text": ""} at the end, or a space to keep it open',
)


class Talk:
    """One socket, from its first message to its last."""

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
        self._contexts: dict[str, Context] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_closing = False
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
            await cancelled(list(self._tasks.values()))
        if self._failure is not None:
            raise self._failure
        return self._code

    async def _until_over(self) -> None:
        while not self._is_over.is_set():
            self._news.clear()
            try:
                async with asyncio.timeout(self._query.inactivity_seconds):
                    await self._news.wait()
            except TimeoutError:
                if not any(context.is_busy for context in self._contexts.values()):
                    await self._give_up()

    async def _give_up(self) -> None:
        """Nothing was sent either way for `inactivity_timeout`."""
        open_ones = [context for context in self._contexts.values() if context.is_open]
        if self._is_multi and open_ones:
            for context in open_ones:
                context.end()
            return
        self._code = NORMAL_CLOSURE if self._is_multi else POLICY_VIOLATION
        if not self._is_multi:
            await self._send(None, error_message(_NO_TEXT, self._code))
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
        context_id = None if self._is_multi else _ONLY
        try:
            message = message_in(data)
            context_id = message.context_id if self._is_multi else _ONLY
            await self._take(message)
        except CsmServeError as error:
            await self._fail(context_id, error)

    async def _take(self, message: SocketMessage) -> None:
        if self._is_closing:
            return  # the last text has ended
        if message.close_socket:
            self._is_closing = True
            for context in self._contexts.values():
                context.end()
            self._end_if_done()
        elif self._is_multi:
            await self._take_for_context(message)
        elif message.text == "":
            context = self._contexts.get(_ONLY) or await self._begin(_ONLY, message)
            self._is_closing = True
            context.end()
        else:
            context = self._contexts.get(_ONLY) or await self._begin(_ONLY, message)
            context.feed(message.text or "", message.flush)

    async def _take_for_context(self, message: SocketMessage) -> None:
        context_id = message.context_id
        if context_id is None:
            if (message.text or "").strip():
                raise InvalidRequest("context_id", "is missing: name the context that the text belongs to")
            return  # keeps the socket open
        context = self._contexts.get(context_id)
        if message.close_context:
            if context is not None:
                context.end()
            elif context_id not in self._tasks:
                await self._send(context_id, {"isFinal": True, "audio": None})
        elif context is None or not context.is_open:
            if message.text or message.voice_settings:
                context = await self._begin(context_id, message)
                context.feed(message.text or "", message.flush)
        else:
            context.feed(message.text or "", message.flush)

    async def _begin(self, context_id: str, message: SocketMessage) -> Context:
        """A new text. Settings of the voice count from its first message."""
        if context_id in self._tasks:
            raise InvalidRequest("context_id", "was closed and is still being spoken: begin another one")
        if len(self._tasks) >= _MAX_CONTEXTS:
            raise Overloaded(f"a socket may have {_MAX_CONTEXTS} contexts at once: close some first")
        key = await key_still_good(self._socket)
        key.require(Scope.SPEECH)
        settings = message.voice_settings or ElevenLabsVoiceSettings()
        coding = coding_named(self._query.output_format, settings.speed)
        schedule = Schedule(least_chars=tuple(message.generation_config.chunk_length_schedule))
        turn = await turn_with(self._voice_id, "", self._speech, key)
        wish = asked(self._query.body(settings), turn, self._settings)
        scene, text = await self._speech.live(wish, self._settings, schedule, key)
        context = Context(scene, text, coding, self._query)
        self._contexts[context_id] = context
        speaking = self._speak(context_id, context.speak(self._speech, key, partial(self._send, context_id)))
        self._tasks[context_id] = asyncio.create_task(speaking)
        return context

    async def _speak(self, context_id: str, speaking: Any) -> None:
        try:
            await speaking
        except WebSocketDisconnect:
            return
        except CsmServeError as error:
            await self._fail(context_id, error)
        except Exception as error:  # noqa: BLE001  whatever it is, its client must not wait for ever
            _log.error("a text of a socket failed with %s", type(error).__name__)
            await self._fail(context_id, InternalError("this server made a mistake: try again"))
        finally:
            self._is_closing = self._is_closing or not self._is_multi
            self._contexts.pop(context_id, None)
            self._tasks.pop(context_id, None)
            self._end_if_done()

    async def _fail(self, context_id: str | None, error: CsmServeError) -> None:
        """A context's error leaves the others alone. That of the only text ends the socket."""
        if not self._is_multi:
            self._failure = error
            self._is_over.set()
            self._news.set()
            return
        told = described(error)[1]
        await self._send(
            context_id, error_message(told, POLICY_VIOLATION) | {"error": f"{told.status}: {told.message}"}
        )
        context = self._contexts.get(context_id) if context_id is not None else None
        if context is not None:
            context.end()

    def _end_if_done(self) -> None:
        if self._is_closing and not self._tasks and not self._is_over.is_set():
            self._code = NORMAL_CLOSURE
            self._is_over.set()
        self._news.set()

    async def _send(self, context_id: str | None, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_json(message | (named(context_id) if self._is_multi else {}))
        self._news.set()
