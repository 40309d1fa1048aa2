"""Clients that leave before they were answered."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Receive


@asynccontextmanager
async def until_disconnect(receive: Receive) -> AsyncGenerator[None, None]:
    """Cancel the block and raise ClientDisconnect once the client has left. The body must have been read before.

    Serve cancels a handler by itself; a plain ASGI server only says so to whoever asks.
    """
    handler = asyncio.current_task()
    assert handler is not None, "runs in a task"
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        handler.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # Both may come at once: then the handler's own cancellation is not to be swallowed.
        if has_left and handler.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
