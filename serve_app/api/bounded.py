"""Reads JSON and MessagePack from callers at a bounded cost.

A few bytes can stand for millions of empty lists, which cost more to build and validate than the rest of the request.
So values are counted first.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgpack

from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings

MAX_VALUES = 150_000
"""Far above any honest request. Commas inside texts count too."""
_MAX_LENGTH = 10_000
"""Items of one list or map. msgpack allocates all of it as soon as it has read the length."""


def read_json(field: str, data: bytes | str) -> Any:
    """The values of `data`. Raises InvalidRequest for more than MAX_VALUES, and json's ValueError or RecursionError.

    Every value but the first follows a comma or an opening bracket, so these are counted before anything is built.
    """
    check_count(field, data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data, MAX_VALUES)
    return json.loads(data)


def check_count(field: str, data: bytes, most: int) -> None:
    """Raises InvalidRequest where JSON may hold more than `most` values."""
    if sum(map(data.count, (b",", b"[", b"{"))) > most:
        raise _too_many(field, most)


def read_msgpack(field: str, data: bytes) -> Any:
    """The values of `data`. Raises InvalidRequest for more than MAX_VALUES, and what msgpack raises."""
    num_values = 0

    def counted(values: Any) -> Any:
        """Called for each list and each map, innermost first."""
        nonlocal num_values
        num_values += 1 + len(values)
        if num_values > MAX_VALUES:
            raise _too_many(field, MAX_VALUES)
        return values

    most = {"max_array_len": _MAX_LENGTH, "max_map_len": _MAX_LENGTH}
    return msgpack.unpackb(data, list_hook=counted, object_hook=counted, **most)


def check_lengths(values: Mapping[Any, Any], limits: LimitSettings) -> None:
    """Raises InvalidRequest where `scene` or `context` is too long, before each of its items is validated."""
    turns, context = values.get("scene"), values.get("context")
    if isinstance(turns, list) and len(turns) > limits.max_scene_turns:
        raise InvalidRequest("turns", f"has {len(turns)} turns: send from 1 to {limits.max_scene_turns}")
    if isinstance(context, list) and len(context) > limits.max_context_segments:
        raise InvalidRequest("context", f"has {len(context)} segments: send at most {limits.max_context_segments}")


def _too_many(field: str, most: int) -> InvalidRequest:
    return InvalidRequest(field, f"holds more than {most} values: send the fields of one request")
