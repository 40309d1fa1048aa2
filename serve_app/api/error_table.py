"""Maps errors to HTTP statuses and retryability, for all dialects."""

import random
from dataclasses import dataclass

from serve_app.errors import (
    BodyTooLarge,
    Cancelled,
    Conflict,
    CsmServeError,
    FileTooLarge,
    Forbidden,
    GenerationFailed,
    InvalidRequest,
    InvalidSignature,
    NotReady,
    NotRetryable,
    Overloaded,
    RunnerLost,
    StartTimeout,
    StorageFailed,
    Unauthorized,
    UnknownAdapter,
    UnknownConversation,
    UnknownFile,
    UnknownJob,
    UnknownKey,
    UnknownRequest,
    UnknownVoice,
    VoiceNameTaken,
)


@dataclass(frozen=True, slots=True)
class Row:
    status: int
    is_retryable: bool = False


_ROWS: dict[type[CsmServeError], Row] = {
    InvalidRequest: Row(422),
    BodyTooLarge: Row(413),
    FileTooLarge: Row(413),
    Unauthorized: Row(401),
    Forbidden: Row(403),
    InvalidSignature: Row(403),
    UnknownRequest: Row(404),
    UnknownConversation: Row(404),
    Conflict: Row(409, is_retryable=True),
    UnknownVoice: Row(404),
    UnknownAdapter: Row(404),
    VoiceNameTaken: Row(409),
    UnknownJob: Row(404),
    NotRetryable: Row(409),
    UnknownFile: Row(404),
    UnknownKey: Row(404),
    Overloaded: Row(429, is_retryable=True),
    NotReady: Row(503, is_retryable=True),
    StorageFailed: Row(503, is_retryable=True),
    StartTimeout: Row(504, is_retryable=True),
    RunnerLost: Row(503, is_retryable=True),
    Cancelled: Row(499),
    GenerationFailed: Row(500),
    CsmServeError: Row(500),
}
"""A class without a row inherits its parent's."""

_RETRYABLE_STATUSES = frozenset({502, *(row.status for row in _ROWS.values() if row.is_retryable)})


def row_of(error: CsmServeError) -> Row:
    return next(_ROWS[kind] for kind in type(error).__mro__ if kind in _ROWS)


def status_of(error: CsmServeError) -> int:
    return row_of(error).status


def is_retryable(status: int) -> bool:
    """Whether clients may try again. For stored results, which keep only the status."""
    return status in _RETRYABLE_STATUSES


def headers_of(error: CsmServeError, scheme: str) -> dict[str, str]:
    """The standard headers of an error. `scheme`: the dialect's word for its authorization scheme."""
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = scheme
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(_spread(error.retry_after_seconds))
    return headers


def _spread(seconds: int) -> int:
    """Up to half as much again, so that those who were refused together do not come back together."""
    return random.randint(seconds, seconds + max(1, seconds // 2))
