"""Every error that the client raises.

ClientError
├── Unreachable
├── StreamBroken
├── JobFailed
└── ServerError
    ├── BadRequest
    ├── Unauthorized
    ├── Forbidden
    ├── NotFound
    ├── Busy
    └── ServerFailed
"""

from typing import Any

import httpx


class ClientError(Exception):
    """Base of the tree."""


class Unreachable(ClientError):
    """No server answers at the address, or the connection broke before an answer came."""


class StreamBroken(ClientError):
    """A stream ended before the speech did. What came is valid."""


class JobFailed(ClientError):
    """A job ended without a result. `kind` names the error."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, kind)
        self.message = message
        self.kind = kind

    def __str__(self) -> str:
        return self.message


class ServerError(ClientError):
    """The server refused the request. `field` names the input that is wrong, where one is."""

    def __init__(self, message: str, status: int, field: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status, field, retry_after)
        self.message = message
        self.status = status
        self.field = field
        self.retry_after = retry_after
        """Seconds after which the server wants to be asked again."""

    def __str__(self) -> str:
        return self.message


class BadRequest(ServerError):
    """The request can never succeed as it is (400, 409, 413, 422)."""


class Unauthorized(ServerError):
    """The key is missing or not valid (401)."""


class Forbidden(ServerError):
    """The key lacks the scope (403)."""


class NotFound(ServerError):
    """The request, job or voice is not known (404)."""


class Busy(ServerError):
    """No slot is free, or the key's limit is reached (429)."""


class ServerFailed(ServerError):
    """The server failed or is still loading (5xx)."""


_BY_STATUS: dict[int, type[ServerError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 429: Busy}


def error_of(response: httpx.Response) -> ServerError:
    """The error in an answer whose body was read, in any of the server's dialects."""
    status = response.status_code
    kind = _BY_STATUS.get(status, ServerFailed if status >= 500 else BadRequest)
    message, field = _said(response)
    return kind(message or f"the server answered with status {status}", status, field, _retry_after(response))


def _said(response: httpx.Response) -> tuple[str, str | None]:
    try:
        body: Any = response.json()
        detail = body.get("detail") or body["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", None  # a proxy's own page, for one
    if isinstance(detail, list):  # as the queue's routes name what is wrong
        first = detail[0]
        field = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
        return f"{field}: {first.get('msg', '')}", field
    return str(detail), body.get("field")


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
