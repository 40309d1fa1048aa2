"""Streams answers while they are generated: WAV, server-sent events, WebSockets."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

PING = ": ping\n\n"
"""A comment among server-sent events. It keeps connections through proxies open, and clients ignore it."""
EVENT_STREAM = "text/event-stream"
_UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Proxies such as nginx pass the stream on at once, and no cache keeps it."""


def event(value: Any) -> str:
    """One server-sent event that holds one JSON value."""
    return f"data: {json.dumps(value)}\n\n"


@asynccontextmanager
async def while_connected(leaving: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    """Cancel the block and raise ClientDisconnect as soon as `leaving` returns, which it does when the client leaves.

    Serve cancels a handler by itself. A plain ASGI server does not.
    """
    handler = asyncio.current_task()
    assert handler is not None, "runs in a task"
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        await leaving()
        has_left = True
        handler.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # Both may come at once. Then the handler's own cancellation must not be swallowed.
        if has_left and handler.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()


async def disconnect(receive: Receive) -> None:
    """Return when an HTTP client has left. The request's body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class StreamedAnswer(StreamingResponse):
    """Sends a body while it is generated. `held` is closed when this returns, however the sending ends.

    An exception breaks the body off, so that no client takes a part for the whole.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes, None] | AsyncGenerator[str, None],
        media_type: str,
        *held: AbstractAsyncContextManager[Any],
        headers: dict[str, str] | None = None,
        status: int = 200,
    ) -> None:
        self._body = body
        self._held = held
        super().__init__(body, status, _UNBUFFERED | (headers or {}), media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's own task group cancels repeatedly, and so would cancel the clean-up too.
        async with AsyncExitStack() as stack:
            for held in self._held:
                await stack.enter_async_context(held)
            await stack.enter_async_context(aclosing(self._body))
            await stack.enter_async_context(while_connected(partial(disconnect, receive)))
            await self.stream_response(send)
