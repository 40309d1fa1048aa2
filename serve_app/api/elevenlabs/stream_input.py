"""Sockets that take text piece by piece: `stream-input` for one text, `multi-stream-input` for several contexts."""

from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.requests import ClientDisconnect

from serve_app.api.auth import key_of
from serve_app.api.elevenlabs.errors import described
from serve_app.api.elevenlabs.messages import error_message, query_in
from serve_app.api.elevenlabs.output_formats import coding_named
from serve_app.api.elevenlabs.speech import PREFIX
from serve_app.api.elevenlabs.talk import Talk
from serve_app.api.elevenlabs.voices import turn_with
from serve_app.api.places import Places
from serve_app.api.sockets import INTERNAL_ERROR, POLICY_VIOLATION, TRY_AGAIN_LATER
from serve_app.errors import CsmServeError, InternalError, Overloaded
from serve_app.keys.key import Scope
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService

_MAX_REASON_BYTES = 120
"""A WebSocket's closing frame has room for 123."""


class StreamInput:
    def __init__(self, speech: SpeechService, settings: Settings, sockets: Places) -> None:
        self._speech = speech
        self._settings = settings
        self._sockets = sockets

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_websocket_route(f"{PREFIX}/{{voice_id}}/stream-input", self.one_text)
        router.add_api_websocket_route(f"{PREFIX}/{{voice_id}}/multi-stream-input", self.contexts)
        return router

    async def one_text(self, socket: WebSocket, voice_id: str) -> None:
        """Speak one text as it comes. An empty text ends it, and the socket is closed after its last sound."""
        await self._serve(socket, voice_id, is_multi=False)

    async def contexts(self, socket: WebSocket, voice_id: str) -> None:
        """Speak several texts at once, each in its own context."""
        await self._serve(socket, voice_id, is_multi=True)

    async def _serve(self, socket: WebSocket, voice_id: str, is_multi: bool) -> None:
        await socket.accept()
        reason = ""
        try:
            key = key_of(socket, Scope.SPEECH)
            query = query_in(socket.query_params)
            await turn_with(voice_id, "", self._speech, key)  # an unknown voice is told at once
            coding_named(query.output_format, 1.0)
            with self._sockets.taken(key.id):
                talk = Talk(socket, self._speech, self._settings, query, voice_id, is_multi)
                code = await talk.run()
        except ClientDisconnect:
            return
        except CsmServeError as error:
            code = TRY_AGAIN_LATER if isinstance(error, Overloaded) else POLICY_VIOLATION
            code = INTERNAL_ERROR if isinstance(error, InternalError) else code
            # A client that is still sending reads the reason of the closure and not the message before it.
            told = described(error)[1]
            reason = told.message.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
            await socket.send_json(error_message(told, code))
        with suppress(RuntimeError):  # the client has closed it already
            await socket.close(code, reason)
