"""How much one key may send to an ingress replica: requests at once, bytes a second, and refusals a second.

Work that is refused costs something too: a body of 5 MB that is not valid crosses three processes first, and a request
for which there is no place crosses all of them. A key that sends without a pause waits for its own earlier bytes and
refusals, and callers with other keys do not.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.auth import KEY_IN_SCOPE
from serve_app.api.error_responses import error_response_at
from serve_app.api.places import Places
from serve_app.errors import Overloaded
from serve_app.keys.key import ANONYMOUS
from serve_app.settings import LimitSettings

_REQUEST_BYTES = 32 * 1024
"""What a request counts as, however small."""
_SOCKET_BYTES = 1024 * 1024
"""Opening one costs as much as the speech of a short text."""
_REFUSALS_PER_SECOND = 4.0
_REFUSALS_AT_ONCE = 8
_LONGEST_REFUSAL_SECONDS = 30.0
"""Clients give up after a minute, or later."""
_MOST_KEYS = 1000


class Pace:
    """Lets each owner have so much a second on average, and `burst` at once. The unit is the caller's."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        """per_second: 0 is no limit."""
        self._rate = per_second
        self._burst_seconds = burst / per_second if per_second else 0.0
        self._clock = clock
        self._paid_until: dict[str, float] = {}

    def delay(self, owner: str, amount: float = 1) -> float:
        """Count what the owner takes. Returns how long it must wait for it."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._paid_until[owner] = max(self._paid_until.get(owner, 0.0), now) + amount / self._rate
        if len(self._paid_until) > _MOST_KEYS:
            self._paid_until = {each: until for each, until in self._paid_until.items() if until > now}
        return max(0.0, self._paid_until.get(owner, now) - now - self._burst_seconds)


class KeyPace:
    """ASGI middleware, inside `Authentication`. Without keys nobody is held back."""

    def __init__(self, app: ASGIApp, limits: LimitSettings) -> None:
        self._app = app
        # A body of the largest size never waits for itself.
        self._pace = Pace(limits.bytes_per_second_per_key, 2 * limits.max_body_bytes)
        self._refusals = Pace(_REFUSALS_PER_SECOND, _REFUSALS_AT_ONCE)
        self._requests = Places("requests", 2**31, limits.max_requests_per_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = scope.get(KEY_IN_SCOPE)
        if key is None or key.id == ANONYMOUS.id:
            await self._app(scope, receive, send)
            return

        async def counted() -> Message:
            message = await receive()
            if body := message.get("body") or message.get("bytes") or message.get("text"):
                await asyncio.sleep(self._pace.delay(key.id, len(body)))
            return message

        async def paced(message: Message) -> None:
            if message.get("status") == HTTPStatus.TOO_MANY_REQUESTS:
                await asyncio.sleep(min(self._refusals.delay(key.id), _LONGEST_REFUSAL_SECONDS))
            await send(message)

        if scope["type"] == "websocket":
            await asyncio.sleep(self._pace.delay(key.id, _SOCKET_BYTES))
            await self._app(scope, counted, send)
            return
        try:
            self._requests.take(key.id)
        except Overloaded as error:
            await error_response_at(scope, error)(scope, receive, send)
            return
        try:
            await asyncio.sleep(self._pace.delay(key.id, _REQUEST_BYTES))
            await self._app(scope, counted, paced)
        finally:
            self._requests.give_back(key.id)
