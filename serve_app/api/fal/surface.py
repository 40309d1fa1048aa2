"""Finds which of fal's hosts a request is meant for, and rewrites its path to that surface under `/fal/`.

It looks at the proxy's header, the prefix, the host and the bare path, in this order. Other requests pass unchanged.
"""

from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.fal.ways import FAL_HOSTS, PREFIX, Surface, Way
from serve_app.api.origin import host_of, origin_of

PROXY = "/api/fal/proxy"
"""The JavaScript client sends all requests here if its `proxyUrl` is set."""
_TARGET = "x-fal-target-url"
_BAD_TARGET = f"{_TARGET} must name https://fal.run, https://queue.fal.run or https://rest.fal.ai: nothing is forwarded"
_BARE = {
    "/storage/": Surface.REST,
    "/tokens": Surface.REST,
    "/.well-known/jwks.json": Surface.REST,
    "/files/": Surface.CDN,
    "/upload/": Surface.CDN,
}
_APPS = "/fal-ai/"
_PROXIED_METHODS = "DELETE, GET, HEAD, OPTIONS, POST, PUT"


class FalSurfaces:
    """ASGI middleware. Addresses in answers begin with `public_url`, or with the origin of the request if None."""

    def __init__(self, app: ASGIApp, public_url: str | None) -> None:
        self._app = app
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        origin = origin_of(scope, self._public_url)
        if path == PROXY and scope["type"] == "http":
            await self._proxied(scope, origin, receive, send)
        elif path.startswith(f"{PREFIX}/"):
            Way.by_prefix(origin).put_into(scope)
            await self._app(scope, receive, send)
        elif surface := _bare_surface(path, host_of(scope)):
            Way.by_host(host_of(scope), origin).put_into(scope)
            await self._app(_led_to(scope, surface, path), receive, send)
        else:
            await self._app(scope, receive, send)

    async def _proxied(self, scope: Scope, origin: str, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers={"Allow": _PROXIED_METHODS})(scope, receive, send)
            return
        target = _target(Headers(scope=scope).get(_TARGET, ""))
        if target is None:
            await JSONResponse({"detail": _BAD_TARGET}, 400)(scope, receive, send)
            return
        surface, path, query = target
        Way.by_prefix(origin).put_into(scope)

        async def uncached(message: Message) -> None:
            # All GETs have the same address, that of the proxy.
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["cache-control"] = "no-store"
            await send(message)

        await self._app({**_led_to(scope, surface, path), "query_string": query}, receive, uncached)


def _bare_surface(path: str, host: str) -> Surface | None:
    if path.startswith(_APPS):
        # Two of fal's hosts share this path: one runs the request, the other queues it.
        is_queued = host.startswith("queue.") or "/requests/" in path
        return Surface.QUEUE if is_queued else Surface.RUN
    return next((surface for start, surface in _BARE.items() if path.startswith(start)), None)


def _target(url: str) -> tuple[Surface, str, bytes] | None:
    """Surface, path and query, or None if the URL names none of fal's hosts."""
    try:
        parts = urlsplit(url)
        path = unquote(parts.path, errors="strict")
        query = parts.query.encode("ascii")
    except (ValueError, UnicodeError):
        return None
    if parts.scheme != "https" or parts.netloc not in FAL_HOSTS:
        return None
    return FAL_HOSTS[parts.netloc], path, query


def _led_to(scope: Scope, surface: Surface, path: str) -> Scope:
    led = f"{scope.get('root_path', '')}{PREFIX}/{surface}{path}"
    return {**scope, "path": led, "raw_path": quote(led).encode()}
