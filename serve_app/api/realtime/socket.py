"""The route of the WebSocket: its limits, its messages, its end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, ValidationError
from starlette.websockets import WebSocketDisconnect

from serve_app.api.auth import key_of, key_still_good
from serve_app.api.bounded import read_json
from serve_app.api.error_responses import invalid_request
from serve_app.api.places import Places
from serve_app.api.realtime.messages import INCOMING, schema
from serve_app.api.realtime.outgoing import Failed, failed
from serve_app.api.realtime.session import Session
from serve_app.errors import CsmServeError, Forbidden, InvalidRequest, Overloaded, Unauthorized
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService
from serve_app.speech.talk import Talk

SPEECH_SOCKET = "/v1/realtime/speech"
_SCHEMA = "/v1/realtime/schema"
_NORMAL, _POLICY_VIOLATION, _GOING_AWAY, _TRY_AGAIN_LATER = 1000, 1008, 1001, 1013
_IDLE_SECONDS = 120.0
_DRAIN_POLL_SECONDS = 0.5


def _never() -> bool:
    return False


class SpeechSocket:
    def __init__(
        self,
        speech: SpeechService,
        talk: Talk,
        settings: Settings,
        sockets: Places,
        is_draining: Callable[[], bool] = _never,
    ) -> None:
        """sockets: counts those of all dialects together.

        is_draining: whether this process takes no more requests, and ends once its sockets are gone.
        """
        self._sockets = sockets
        self._speech = speech
        self._talk = talk
        self._settings = settings
        self._is_draining = is_draining

    def router(self) -> APIRouter:
        router = APIRouter(tags=["conversations"])
        router.add_api_websocket_route(SPEECH_SOCKET, self.connect)
        router.add_api_route(_SCHEMA, self.schema, methods=["GET"])
        return router

    async def schema(self) -> dict[str, Any]:
        """The JSON schemas of the WebSocket's messages."""
        return schema()

    async def connect(self, socket: WebSocket) -> None:
        """Hold one conversation with one client."""
        await socket.accept()
        sending = asyncio.Lock()

        async def send(message: BaseModel) -> None:
            async with sending:
                await socket.send_text(message.model_dump_json())

        try:
            key = key_of(socket, Scope.SPEECH)
            with self._sockets.taken(key.id), suppress(WebSocketDisconnect):
                session = Session(self._speech, self._talk, self._settings, key, send)
                async with session.opened():
                    await self._serve(socket, session, key, send)
        except Forbidden as error:
            await _close(socket, send, error, _POLICY_VIOLATION)
        except Overloaded as error:
            await _close(socket, send, error, _TRY_AGAIN_LATER)

    async def _serve(self, socket: WebSocket, session: Session, key: Key, send: Any) -> None:
        while True:
            try:
                received = await self._next(socket, session)
            except TimeoutError:
                detail = f"nothing came for {_IDLE_SECONDS:.0f} s: send ping to keep the socket open"
                await send(Failed(kind="idle", detail=detail))
                await socket.close(_NORMAL)
                return
            if received is None:
                await socket.close(_GOING_AWAY, "this server ends: connect again")
                return
            try:
                (await key_still_good(socket)).require(Scope.SPEECH)
                await session.take(_read(received))
            except (Forbidden, Unauthorized) as error:
                await _close(socket, send, error, _POLICY_VIOLATION)
                return
            except CsmServeError as error:
                await send(failed(error))

    async def _next(self, socket: WebSocket, session: Session) -> str | None:
        """The next message. None once a drain has been told to the client. Raises TimeoutError."""
        coming = asyncio.create_task(socket.receive_text())
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                while not (await asyncio.wait({coming}, timeout=_DRAIN_POLL_SECONDS))[0]:
                    if self._is_draining():
                        await session.reconnect()
                        return None
            return coming.result()
        finally:
            coming.cancel()


def _read(text: str) -> Any:
    """Raises InvalidRequest."""
    try:
        return INCOMING.validate_python(read_json("message", text))
    except ValidationError as error:
        wrong = invalid_request(error)
        # pydantic's path begins with the type that the message names. Without a known one it is empty.
        raise wrong.at(wrong.field.partition(".")[2] or "type") from None
    except (ValueError, RecursionError):
        raise InvalidRequest("message", 'is not valid JSON: send an object such as {"type": "ping"}') from None


async def _close(socket: WebSocket, send: Any, error: CsmServeError, code: int) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        await send(failed(error))
        await socket.close(code)
