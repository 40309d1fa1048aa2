"""Waits for what happens soon, on a busy machine later."""

import time
from collections.abc import Callable

import httpx

_SECONDS = 60.0


def until(is_so: Callable[[], object], what: str, seconds: float = _SECONDS) -> None:
    """Polls; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds:g} seconds: {what}"
        time.sleep(0.02)


def let_http_be_slow() -> None:
    """Raises httpx' default timeout, in this process, from the five seconds that a busy machine may take."""
    for part in ("connect", "read", "write", "pool"):
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, _SECONDS)
