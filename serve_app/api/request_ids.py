"""Ids of requests: the caller's `X-Request-Id` where it is safe to use.

Serve's proxy echoes the caller's header in every answer, and makes one up if there is none. So this header is the
echo, and `X-CSM-Request-Id` names the id that the server uses.
"""

import hashlib
import re
import uuid

from fastapi import Request

from serve_app.errors import InvalidRequest

CALLERS_ID = "X-Request-Id"
OUR_ID = "X-CSM-Request-Id"
_MAX_BYTES = 512
_SAFE = re.compile(r"[\w.-]{1,128}", re.ASCII)


def request_id_of(request: Request) -> str:
    """The caller's id, its hash, or a new id. Raises InvalidRequest above 512 bytes."""
    sent = request.headers.get(CALLERS_ID, "").encode("latin-1")
    if len(sent) > _MAX_BYTES:
        raise InvalidRequest(CALLERS_ID, f"has {len(sent)} bytes, at most {_MAX_BYTES} are allowed: send a shorter id")
    try:
        text = sent.decode()
    except UnicodeDecodeError:
        text = sent.decode("latin-1")
    return kept_id(text) if text else uuid.uuid4().hex


def kept_id(sent: str) -> str:
    """`sent` if it is safe in paths, file names and logs, else its hash. Either finds the request later."""
    return (
        sent
        if _SAFE.fullmatch(sent)
        else hashlib.blake2b(sent.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    )


def id_headers(request: Request, request_id: str) -> dict[str, str]:
    """The id headers of an answer. Serve's proxy adds the caller's own header, and clients would join two into one."""
    named = {} if CALLERS_ID in request.headers else {CALLERS_ID: request_id}
    return named | {OUR_ID: request_id}
