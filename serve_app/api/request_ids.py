"""Ids of requests: a caller's own `X-Request-Id`, as far as it can be kept.

Serve's proxy writes the caller's header into every answer as it came, and makes one up where there is none. So this
header is the echo, and `X-CSM-Request-Id` names the id that the server uses.
"""

import hashlib
import re
import uuid

from fastapi import Request

from serve_app.errors import InvalidRequest

CALLERS_ID = "X-Request-Id"
OUR_ID = "X-CSM-Request-Id"
_MOST_BYTES = 512
_SAFE = re.compile(r"[\w.-]{1,128}", re.ASCII)


def request_id_of(request: Request) -> str:
    """The caller's id, the one that stands for it, or a new one. Raises InvalidRequest above 512 bytes."""
    sent = request.headers.get(CALLERS_ID, "").encode("latin-1")
    if len(sent) > _MOST_BYTES:
        raise InvalidRequest(CALLERS_ID, f"has {len(sent)} bytes, at most {_MOST_BYTES} are allowed: send a shorter id")
    try:
        text = sent.decode()
    except UnicodeDecodeError:
        text = sent.decode("latin-1")
    return kept_id(text) if text else uuid.uuid4().hex


def kept_id(sent: str) -> str:
    """`sent` where it is safe in paths, file names and logs; else an id made of it, so that both find the request."""
    return (
        sent
        if _SAFE.fullmatch(sent)
        else hashlib.blake2b(sent.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    )


def id_headers(request: Request, request_id: str) -> dict[str, str]:
    """Serve adds the caller's header by itself; twice would reach clients as one odd value."""
    named = {} if CALLERS_ID in request.headers else {CALLERS_ID: request_id}
    return named | {OUR_ID: request_id}
