"""Signed URLs that work without a key, and short-lived tokens. Both use HMAC-SHA256."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from serve_app.errors import InvalidSignature, Unauthorized

EXPIRES = "expires"
SIGNATURE = "sig"

_JWT_HEADER = b'{"alg":"HS256","typ":"JWT"}'


class UrlSigner:
    """Signs query strings that grant their bearer one path until a deadline."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = _key_for("url", secret)
        self._clock = clock

    def sign(self, path: str, seconds: float, **claims: str) -> str:
        """`expires=…&…&sig=…`, the query for `path`. The bearer cannot change `claims`."""
        assert not {EXPIRES, SIGNATURE}.intersection(claims), "the signer adds these names"
        signed = {EXPIRES: str(int(self._clock() + seconds)), **claims}
        return urlencode({**signed, SIGNATURE: self._signature(path, signed)})

    def check(self, path: str, query: Mapping[str, str]) -> dict[str, str]:
        """The claims. Raises InvalidSignature if path and query were not signed like this, or have expired."""
        signed = {name: value for name, value in query.items() if name != SIGNATURE}
        expected = self._signature(path, signed).encode()
        if not hmac.compare_digest(expected, query.get(SIGNATURE, "").encode("utf-8", "replace")):
            raise InvalidSignature("the URL's signature does not match; use the whole URL, unchanged")
        if self._clock() >= int(signed.pop(EXPIRES)):
            raise InvalidSignature("the URL has expired; ask for a new one")
        return signed

    def _signature(self, path: str, signed: Mapping[str, str]) -> str:
        # Quoted like a URL, so that no path can be read as another path with other claims.
        message = urlencode([("path", path), *sorted(signed.items())], errors="replace")
        return _base64(_hmac(self._key, message.encode()))


class Tokens:
    """JSON Web Tokens (HS256) that only this cluster issues and reads."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = _key_for("token", secret)
        self._clock = clock

    def issue(self, claims: Mapping[str, Any], seconds: float) -> str:
        payload = json.dumps({**claims, "exp": int(self._clock() + seconds)}, separators=(",", ":")).encode()
        signed = f"{_base64(_JWT_HEADER)}.{_base64(payload)}"
        return f"{signed}.{_base64(_hmac(self._key, signed.encode()))}"

    def read(self, token: str) -> dict[str, Any]:
        """The claims, with `exp`. Raises Unauthorized for a token that is foreign or has expired."""
        signed, _, signature = token.rpartition(".")
        expected = _base64(_hmac(self._key, signed.encode("utf-8", "replace")))
        # The signature is checked before the token is parsed, so a token with another algorithm is refused.
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise Unauthorized("this server did not issue the token; ask for a new one")
        claims = json.loads(_unbase64(signed.partition(".")[2]))
        if self._clock() >= claims["exp"]:
            raise Unauthorized("the token has expired; ask for a new one")
        return claims


class Seals:
    """Bytes that only this cluster makes and takes, as text of URL-safe characters. They are signed, not hidden."""

    def __init__(self, secret: bytes) -> None:
        self._key = _key_for("seal", secret)

    def seal(self, data: bytes) -> str:
        return f"{_base64(data)}.{_base64(_hmac(self._key, data))}"

    def open(self, text: str) -> bytes:
        """Raises InvalidSignature for a text that was not sealed like this."""
        data, _, signature = text.partition(".")
        try:
            opened = _unbase64(data)
        except ValueError:
            opened = b""
        expected = _base64(_hmac(self._key, opened)).encode()
        if not data or not hmac.compare_digest(expected, signature.encode("utf-8", "replace")):
            raise InvalidSignature("was not made by this server, or was changed: send it as it was received")
        return opened


def _key_for(purpose: str, secret: bytes) -> bytes:
    """A key for one purpose, so that a signature for one purpose is invalid for every other."""
    return _hmac(secret, purpose.encode())


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
