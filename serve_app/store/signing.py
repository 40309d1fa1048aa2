"""What we sign and check ourselves: URLs that work without a key, and short-lived tokens. HMAC-SHA256 throughout."""

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
    """Query strings that let their bearer use one path until a time."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = _key_for("url", secret)
        self._clock = clock

    def sign(self, path: str, seconds: float, **claims: str) -> str:
        """`expires=…&…&sig=…`, to stand after `path` and a question mark. `claims` cannot be changed by the bearer."""
        assert not {EXPIRES, SIGNATURE}.intersection(claims), "these names are the signer's"
        signed = {EXPIRES: str(int(self._clock() + seconds)), **claims}
        return urlencode({**signed, SIGNATURE: self._signature(path, signed)})

    def check(self, path: str, query: Mapping[str, str]) -> dict[str, str]:
        """The claims. Raises InvalidSignature for a path or a query that was not signed so, or whose time is over."""
        signed = {name: value for name, value in query.items() if name != SIGNATURE}
        expected = self._signature(path, signed).encode()
        if not hmac.compare_digest(expected, query.get(SIGNATURE, "").encode("utf-8", "replace")):
            raise InvalidSignature("the URL's signature does not fit it; use the URL as it was given, whole")
        if self._clock() >= int(signed.pop(EXPIRES)):
            raise InvalidSignature("the URL's time is over; ask for a new one")
        return signed

    def _signature(self, path: str, signed: Mapping[str, str]) -> str:
        # Quoted as a URL is, so that no path can be read as another path with other claims.
        message = urlencode([("path", path), *sorted(signed.items())], errors="replace")
        return _base64(_hmac(self._key, message.encode()))


class Tokens:
    """Compact JSON Web Tokens (HS256) that only this cluster issues and reads."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = _key_for("token", secret)
        self._clock = clock

    def issue(self, claims: Mapping[str, Any], seconds: float) -> str:
        payload = json.dumps({**claims, "exp": int(self._clock() + seconds)}, separators=(",", ":")).encode()
        signed = f"{_base64(_JWT_HEADER)}.{_base64(payload)}"
        return f"{signed}.{_base64(_hmac(self._key, signed.encode()))}"

    def read(self, token: str) -> dict[str, Any]:
        """The claims, `exp` included. Raises Unauthorized for what we did not issue, or whose time is over."""
        signed, _, signature = token.rpartition(".")
        expected = _base64(_hmac(self._key, signed.encode("utf-8", "replace")))
        # All of it is compared before any of it is read: a token that names another algorithm is not ours.
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise Unauthorized("the token is not one of this server's; ask for a new one")
        claims = json.loads(_unbase64(signed.partition(".")[2]))
        if self._clock() >= claims["exp"]:
            raise Unauthorized("the token's time is over; ask for a new one")
        return claims


def _key_for(purpose: str, secret: bytes) -> bytes:
    """One secret, several uses: what is signed for one never passes for another."""
    return _hmac(secret, purpose.encode())


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
