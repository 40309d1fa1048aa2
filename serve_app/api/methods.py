"""Answers HEAD wherever GET is answered, and OPTIONS on every path."""

from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class HeadAndOptions:
    """ASGI middleware, to run after paths are rewritten. A path with its own HEAD route keeps it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            if not _is_answered(scope, "HEAD") and _is_answered(scope, "GET"):
                head = _HeadOfGet(receive, send)
                await self._app({**scope, "method": "GET"}, head.receive, head.send)
                return
        elif scope["type"] == "http" and scope["method"] == "OPTIONS":
            methods = {method for method in _METHODS if _is_answered(scope, method)}
            if methods:
                methods |= {"HEAD", "OPTIONS"} if "GET" in methods else {"OPTIONS"}
                answer = Response(status_code=204, headers={"Allow": ", ".join(sorted(methods))})
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_answered(scope: Scope, method: str) -> bool:
    """Whether a route takes this method. Catch-all routes do not count, since they answer 404."""
    asked = {**scope, "method": method}
    routes = (route for route in scope["app"].routes if not getattr(route, "path", "").endswith(":path}"))
    return any(route.matches(asked)[0] is Match.FULL for route in routes)


class _HeadOfGet:
    """Sends status and headers of a GET without its body. The route then sees a client leave, which ends streams."""

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
