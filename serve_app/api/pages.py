"""Keeps web pages of others from a server on its user's machine that asks for no key.

A page can send requests to `localhost`, and one that has its own name lead to 127.0.0.1 (DNS rebinding) can read the
answers too. Browsers say truthfully which name was asked for (Host) and which page asks (Origin).
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.error_responses import error_response
from serve_app.errors import Forbidden


class OwnPages:
    """ASGI middleware. Refuses requests to a public name, and requests of pages that stand under one."""

    def __init__(self, app: ASGIApp, allowed_names: Collection[str], allowed_pages: Collection[str]) -> None:
        """allowed_names: hosts that are this server's. allowed_pages: origins such as `https://example.com`."""
        self._app = app
        self._names = frozenset(name.lower() for name in allowed_names)
        self._pages = frozenset(allowed_pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (reason := self._refusal(Headers(scope=scope))):
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": reason})
            else:
                await error_response(Forbidden(reason))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host and not self._is_ours(f"//{host}"):
            return (
                "this server asks for no key and does not know the host name of this request: set public_url to its "
                "address, or require keys"
            )
        is_known = origin is None or "*" in self._pages or origin in self._pages
        if not is_known and not self._is_ours(origin or ""):
            return (
                "this server asks for no key and does not serve pages of other origins: list the page's origin in "
                "allowed_pages, or require keys"
            )
        return None

    def _is_ours(self, url: str) -> bool:
        """Whether no stranger can have pages there: an address of this machine, a name without a dot, or our own."""
        try:
            name = (urlsplit(url).hostname or "").lower()
        except ValueError:
            return False
        return bool(name) and (name in self._names or _is_private(name))


def _is_private(name: str) -> bool:
    """Names without a dot are of this network: a public name has one."""
    try:
        return not ip_address(name).is_global
    except ValueError:
        return "." not in name or name.endswith(".localhost")
