"""Whose request goes in next, in the process that takes connections.

A request costs this process and an ingress some milliseconds each, also one that is refused at once. Their event loops
take what comes in the order in which it comes. So the door lets in a few at a time, and keys take turns.
"""

import asyncio
import os
from contextlib import ExitStack

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.elevenlabs.errors import KEY_HEADER
from serve_app.turns import TurnLimits, Turns

_AT_ONCE = max(len(os.sched_getaffinity(0)), 2)
"""With more, each waits for processors that the others have, and not in the order of this line."""
_HELD_SECONDS = 0.05
"""What is not over by then waits for something else than a processor: a slot, a listener, a job that changes."""
_WAIT_SECONDS = 600.0
_CREDENTIALS = (b"authorization", KEY_HEADER.lower().encode())


class Door:
    """ASGI middleware. A request has a place from its turn until its answer is over, and `_HELD_SECONDS` at most."""

    def __init__(self, app: ASGIApp, most_waiting: int) -> None:
        self._app = app
        self._turns = Turns(TurnLimits("requests wait", _AT_ONCE, most_waiting, most_waiting, _WAIT_SECONDS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        ticket = await self._turns.taken(_sender(scope))
        place = ExitStack()
        place.callback(self._turns.leave, ticket)
        ending = asyncio.get_running_loop().call_later(_HELD_SECONDS, place.close)

        try:
            await self._app(scope, receive, send)
        finally:
            ending.cancel()
            place.close()


def at_the_door(most_waiting: int) -> Middleware:
    """What Serve puts before its proxy."""
    return Middleware(Door, most_waiting=most_waiting)


def _sender(scope: Scope) -> str:
    """What the request brings as its key, good or bad; the client's address if it brings none."""
    for name, value in scope["headers"]:
        if name in _CREDENTIALS:
            return value.decode("latin-1")
    return (scope.get("client") or ("",))[0]
