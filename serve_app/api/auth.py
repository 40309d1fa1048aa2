"""Identifies callers by keys in the `Authorization` header, for every dialect. 401 comes before a body is read."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.elevenlabs.errors import KEY_HEADER
from serve_app.api.error_responses import error_response_at
from serve_app.api.openapi import DOCS_ASSETS
from serve_app.api.playground.router import PAGE_FILES
from serve_app.errors import CsmServeError, StorageFailed, Unauthorized
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.key import Scope as KeyScope
from serve_app.keys.keys import Keys
from serve_app.turns import working_for

_KEYS = "csm.keys"
KEY_IN_SCOPE = "csm.key"
_SCHEMES = ("key", "bearer")
_POLICY_VIOLATION = 1008
_TRY_AGAIN_LATER = 1013
_READING = frozenset({"GET", "HEAD"})
_OPEN = (
    # Probes, and the reference that says how to send a key.
    (_READING, re.compile(rf"/health|/ready|/openapi\.json|/docs|/docs/oauth2-redirect|/redoc|{DOCS_ASSETS}/[^/]+")),
    # The page, which asks for a key itself. Below a path prefix its path may be empty: it is redirected.
    (_READING, re.compile("|".join(("", *map(re.escape, PAGE_FILES))))),
    # Webhooks are checked by whoever receives them.
    (_READING, re.compile(r"/fal/rest/\.well-known/jwks\.json")),
    # Clients pass the addresses of files on, and ids cannot be guessed.
    (_READING, re.compile(r"/fal/cdn/files/[^/]+/[^/]+")),
    # Addresses for uploads are signed. Their route checks the signature.
    (frozenset({"PUT", "POST"}), re.compile(r"/fal/cdn/upload/.+")),
)


class Credential(Protocol):
    """Another proof of identity than a key, such as a token."""

    async def __call__(self, connection: HTTPConnection) -> Key | None:
        """The key that it was issued for, or None if the request has none. Raises Unauthorized for a bad one."""
        ...


class Authentication:
    """ASGI middleware. Without `keys` every caller is ANONYMOUS. `others` are tried before the header."""

    def __init__(self, app: ASGIApp, keys: Keys | None, others: Sequence[Credential] = ()) -> None:
        self._app = app
        self._keys = keys
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                scope[_KEYS] = self._keys
                if self._keys is None:
                    scope[KEY_IN_SCOPE] = ANONYMOUS
                elif not _is_open(scope):
                    scope[KEY_IN_SCOPE] = await self._key(self._keys, HTTPConnection(scope))
            except (StorageFailed, Unauthorized) as error:
                await _refuse(error, scope, receive, send)
                return
        key = scope.get(KEY_IN_SCOPE, ANONYMOUS)
        with working_for(key.id):
            await self._app(scope, receive, send)

    async def _key(self, keys: Keys, connection: HTTPConnection) -> Key:
        for other in self._others:
            if (key := await other(connection)) is not None:
                return key
        return await keys.check(_sent(connection))


def key_of(connection: HTTPConnection, *scopes: KeyScope) -> Key:
    """The caller's key. Raises Forbidden where it has none of `scopes`. Not for the paths that need no key."""
    key: Key = connection.scope[KEY_IN_SCOPE]
    key.require(*scopes)
    return key


async def key_still_good(connection: HTTPConnection) -> Key:
    """The key of a connection that has been open for a while. Raises Unauthorized if it was revoked or rotated.

    A token's own expiry counts at its first use only.
    """
    keys: Keys | None = connection.scope[_KEYS]
    key: Key = connection.scope[KEY_IN_SCOPE]
    if keys is None:
        return key
    current = await keys.confirm(key.id, key.generation)
    return replace(current, scopes=current.scopes & key.scopes)


def _is_open(scope: Scope) -> bool:
    """Whether the path needs no key. No middleware between here and the routes may change the path."""
    if scope["type"] != "http":
        return False
    method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
    return method == "OPTIONS" or any(method in methods and paths.fullmatch(path) for methods, paths in _OPEN)


def _sent(connection: HTTPConnection) -> str:
    headers = connection.headers.getlist("authorization")
    if len(headers) > 1:
        raise Unauthorized("there are several Authorization headers: send one")
    if not headers and (bare := connection.headers.get(KEY_HEADER)) is not None:
        return bare.strip()
    scheme, _, key = "".join(headers).strip().partition(" ")
    if scheme.lower() not in _SCHEMES:
        raise Unauthorized("a key is needed: send the header Authorization: Key ID:SECRET, or Bearer ID:SECRET")
    return key.strip()


async def _refuse(error: CsmServeError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # the handshake, which an answer must follow
        if "websocket.http.response" not in scope.get("extensions", {}):
            code = _POLICY_VIOLATION if isinstance(error, Unauthorized) else _TRY_AGAIN_LATER
            await send({"type": "websocket.close", "code": code, "reason": str(error)})
            return
    await error_response_at(scope, error)(scope, receive, send)
