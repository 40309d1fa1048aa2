"""Server-sent events as fal's clients read them: each is one JSON value, and there is no `[DONE]`."""

import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serve_app.api.disconnect import until_disconnect

PING = ": ping\n\n"
"""A comment: it keeps the connections of proxies open and reaches nobody."""


def event(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


class EventStream(StreamingResponse):
    """However the sending ends, `held` is left when this returns. An exception breaks the stream off: no client takes
    what came so far for all of it."""

    def __init__(
        self, events: AsyncGenerator[str, None], *held: AbstractAsyncContextManager[Any], **headers: str
    ) -> None:
        self._events = events
        self._held = held
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"} | headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not Starlette's own way: it cancels again and again, also what cleans up behind a first cancellation.
        async with AsyncExitStack() as stack:
            for held in self._held:
                await stack.enter_async_context(held)
            await stack.enter_async_context(aclosing(self._events))
            await stack.enter_async_context(until_disconnect(receive))
            await self.stream_response(send)
