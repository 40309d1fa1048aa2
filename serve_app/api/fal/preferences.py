"""Options that fal's clients send as request headers."""

import json
import math
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers

from serve_app.errors import InvalidRequest

_TIMEOUT = "x-fal-request-timeout"
_PRIORITY = "x-fal-queue-priority"
_NO_RETRY = "x-fal-no-retry"
_LIFECYCLES = ("x-fal-object-lifecycle-preference", "x-fal-object-lifecycle")
_EXPIRATION = "expiration_duration_seconds"
_ABSENT = object()
_MAX_SECONDS = 10 * 366 * 86_400
_STORE_IO = "x-fal-store-io"
_SWITCHES = {"0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


@dataclass(frozen=True, slots=True)
class Preferences:
    start_timeout_seconds: float | None
    kept_seconds: float | None
    """Lifetime of the answer's file. None takes the server's default, infinity keeps the file until it is deleted."""
    priority: Literal["normal", "low"]
    retries: bool
    stores_io: bool
    """Whether input and output may be kept after the result was fetched."""


def preferences_of(headers: Headers) -> Preferences:
    """Raises InvalidRequest with the name of a malformed header."""
    return Preferences(
        start_timeout_seconds=_seconds(_TIMEOUT, headers.get(_TIMEOUT)),
        kept_seconds=kept_seconds(headers),
        priority=_priority(headers.get(_PRIORITY, "normal")),
        retries=not _switch(_NO_RETRY, headers.get(_NO_RETRY, "0")),
        stores_io=_switch(_STORE_IO, headers.get(_STORE_IO, "1")),
    )


def kept_seconds(headers: Headers) -> float | None:
    """Lifetime of a file. Access lists in the header are ignored, because a file's URL permits reading it."""
    for name in _LIFECYCLES:
        if value := headers.get(name):
            return _expiration(name, value)
    return None


def _expiration(name: str, value: str) -> float | None:
    try:
        preference = json.loads(value)
        seconds = preference.get(_EXPIRATION, _ABSENT)
    except (ValueError, AttributeError, RecursionError):
        raise InvalidRequest(name, 'must be JSON, such as {"expiration_duration_seconds": 3600}') from None
    if seconds is None:
        return math.inf  # null means never to fal; an absent field means the default
    return None if seconds is _ABSENT else _seconds(name, str(seconds))


def _seconds(name: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MAX_SECONDS:
        raise InvalidRequest(name, f"must be a number of seconds above 0 and at most {_MAX_SECONDS}")
    return seconds


def _priority(value: str) -> Literal["normal", "low"]:
    if value not in ("normal", "low"):
        raise InvalidRequest(_PRIORITY, "must be normal or low")
    return value


def _switch(name: str, value: str) -> bool:
    if value.strip().lower() not in _SWITCHES:
        raise InvalidRequest(name, "must be 0 or 1")
    return _SWITCHES[value.strip().lower()]
