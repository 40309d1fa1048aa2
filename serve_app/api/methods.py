"""Answers HEAD wherever GET is answered, and OPTIONS on every path."""

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHOD_NOT_ALLOWED = 405


class HeadAndOptions:
    """ASGI middleware, inside of what changes paths. Both are found out by the 405 of the routes and its `Allow`.

    A path that has a HEAD or OPTIONS route of its own keeps it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        refusal = _Refusal(send)
        # A copy: routing leaves its traces in the scope.
        await self._app(dict(scope), receive, refusal.send)
        if refusal.allow is None:
            return
        methods = refusal.allow | ({"HEAD"} if "GET" in refusal.allow else set()) | {"OPTIONS"}
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers={"Allow": ", ".join(sorted(methods))})(scope, receive, send)
        elif "GET" in refusal.allow:
            head = _HeadOfGet(receive, send)
            await self._app({**scope, "method": "GET"}, head.receive, head.send)
        else:
            await refusal.replay()


class _Refusal:
    """Holds a 405 back, and passes every other answer on."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self.allow: set[str] | None = None
        """The methods that the path answers; None where the answer is no 405."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == _METHOD_NOT_ALLOWED:
            allow = Headers(raw=message["headers"]).get("allow", "")
            self.allow = {method.strip() for method in allow.split(",") if method.strip()}
        if self.allow is None:
            await self._send(message)
        else:
            self._held.append(message)

    async def replay(self) -> None:
        for message in self._held:
            await self._send(message)


class _HeadOfGet:
    """Sends status and headers of a GET without its body. To the route the client leaves then, which ends a stream."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_sent = False

    async def receive(self) -> Message:
        return {"type": "http.disconnect"} if self._is_sent else await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            self._is_sent = True
