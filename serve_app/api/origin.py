"""The server's own address, as its caller sees it."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOST = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", re.ASCII)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def origin_of(scope: Scope, public_url: str | None) -> str:
    """Scheme, host and root path, without a slash at the end. `public_url` wins, then a proxy's headers.

    Forwarded values are ignored unless they are a scheme of HTTP and a host name or address.
    """
    if public_url is not None:
        return public_url.rstrip("/")
    headers = Headers(scope=scope)
    scheme = _SCHEMES.get(_first(headers, "x-forwarded-proto").lower()) or _SCHEMES[scope["scheme"]]
    forwarded = _first(headers, "x-forwarded-host")
    host = forwarded if _HOST.fullmatch(forwarded) else host_of(scope)
    return f"{scheme}://{host}{scope.get('root_path', '')}"


def _first(headers: Headers, name: str) -> str:
    """The value of the outermost proxy, or ""."""
    return headers.get(name, "").partition(",")[0].strip()


def host_of(scope: Scope) -> str:
    """The request's Host header, or the address of the socket. IPv6 addresses stand in brackets."""
    address, port = scope.get("server") or ("localhost", 80)
    bracketed = f"[{address}]" if ":" in address else address
    return Headers(scope=scope).get("host") or (bracketed if port is None else f"{bracketed}:{port}")


class PublicRedirects:
    """ASGI middleware: a redirect to this server (a slash too many) keeps scheme and host as the caller sees them."""

    def __init__(self, app: ASGIApp, public_url: str | None) -> None:
        self._app = app
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def rewritten(message: Message) -> None:
            if message["type"] == "http.response.start" and 300 <= message["status"] < 400:
                headers = MutableHeaders(scope=message)
                if location := headers.get("location"):
                    headers["location"] = self._public(location, scope)
            await send(message)

        await self._app(scope, receive, rewritten)

    def _public(self, location: str, scope: Scope) -> str:
        own = f"{scope['scheme']}://{host_of(scope)}"
        if not location.startswith(f"{own}/"):
            return location
        path = location.removeprefix(own).removeprefix(scope.get("root_path", ""))
        return origin_of(scope, self._public_url) + path
