"""The texts of one socket: what each message does to them, and their speech, each in a task of its own."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from fastapi import WebSocketDisconnect

from serve_app.api.elevenlabs.context import Context, cancelled
from serve_app.api.elevenlabs.messages import SocketMessage
from serve_app.errors import CsmServeError, InternalError, InvalidRequest, Overloaded

_log = logging.getLogger(__name__)
_MAX_CONTEXTS = 16
ONLY = ""
"""The context of a socket that has one text."""


class Owner(Protocol):
    """The socket that the texts came over."""

    async def open(self, context_id: str, message: SocketMessage) -> tuple[Context, Coroutine[Any, Any, None]]:
        """A new text and its speech, which ends once all is sent. Raises InvalidRequest, Unauthorized, Forbidden."""
        ...

    async def send(self, context_id: str | None, message: dict[str, Any]) -> None: ...

    async def failed(self, context_id: str | None, error: CsmServeError) -> None:
        """The speech of a text failed."""
        ...

    def ended(self) -> None:
        """The speech of a text has ended, in whatever way."""
        ...


class Texts:
    def __init__(self, owner: Owner, is_multi: bool) -> None:
        self.is_closing = False
        """Whether no further text may begin."""
        self._owner = owner
        self._is_multi = is_multi
        self._contexts: dict[str, Context] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether any is being spoken, rather than waiting for more."""
        return any(context.is_busy for context in self._contexts.values())

    @property
    def are_done(self) -> bool:
        return self.is_closing and not self._tasks

    def end_open(self) -> bool:
        """Speak what is left of those that wait for more. False if there are none."""
        open_ones = [context for context in self._contexts.values() if context.is_open]
        for context in open_ones:
            context.end()
        return bool(open_ones)

    def end(self, context_id: str | None) -> None:
        """Speak what is left of one, if it is there."""
        if context_id is not None and (context := self._contexts.get(context_id)) is not None:
            context.end()

    async def cancel(self) -> None:
        await cancelled(list(self._tasks.values()))

    async def take(self, message: SocketMessage) -> None:
        """Raises InvalidRequest, Overloaded, and what `Owner.open` raises."""
        if self.is_closing:
            return  # the last text has ended
        if message.close_socket:
            self.is_closing = True
            self.end_open()
        elif self._is_multi:
            await self._take_for_context(message)
        elif message.text == "":
            context = self._contexts.get(ONLY) or await self._begin(ONLY, message)
            self.is_closing = True
            context.end()
        else:
            context = self._contexts.get(ONLY) or await self._begin(ONLY, message)
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
                await self._owner.send(context_id, {"isFinal": True, "audio": None})
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
        context, speech = await self._owner.open(context_id, message)
        self._contexts[context_id] = context
        self._tasks[context_id] = asyncio.create_task(self._speak(context_id, speech))
        return context

    async def _speak(self, context_id: str, speech: Coroutine[Any, Any, None]) -> None:
        try:
            await speech
        except WebSocketDisconnect:
            return
        except CsmServeError as error:
            await self._owner.failed(context_id, error)
        except Exception as error:  # noqa: BLE001  whatever it is, its client must not wait for ever
            _log.error("a text of a socket failed with %s", type(error).__name__)
            await self._owner.failed(context_id, InternalError("this server made a mistake: try again"))
        finally:
            self.is_closing = self.is_closing or not self._is_multi
            self._contexts.pop(context_id, None)
            self._tasks.pop(context_id, None)
            self._owner.ended()
