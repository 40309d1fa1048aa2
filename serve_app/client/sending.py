"""When and how often a request is tried again, for both clients."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from serve_app.client.errors import Busy, ClientError, ServerError, ServerFailed, Unreachable

LOADING = 503
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Retries:
    """Refusals before any audio are tried again: 429 and 503, and connections that cannot be made."""

    most: int = 4

    def pause_before_next(self, error: ClientError, num_tried: int) -> float | None:
        """Seconds to wait, as the server says or twice as long each time. None if it is not worth it."""
        if num_tried > self.most or not _passes(error):
            return None
        asked = error.retry_after if isinstance(error, ServerError) else None
        if asked is not None:
            return min(asked, _LONGEST_PAUSE_SECONDS)
        # Spread out, so that clients that were refused together do not come back together.
        return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (num_tried - 1)) * random.uniform(0.5, 1)


def _passes(error: ClientError) -> bool:
    if isinstance(error, ServerFailed):
        return error.status == LOADING
    return isinstance(error, (Busy, Unreachable))


def unreachable(error: httpx.TransportError, base_url: str) -> Unreachable:
    return Unreachable(f"no server answers at {base_url} ({type(error).__name__}): is it running?")


def usual_timeout() -> httpx.Timeout:
    """A whole answer may take as long as its speech; a connection may not."""
    return httpx.Timeout(600, connect=10)


def key_sender(base_url: str, key: str | None) -> Callable[[httpx.Request], httpx.Request]:
    """Adds the key to requests to this server, and to no other: files may lie elsewhere."""
    host = httpx.URL(base_url).netloc

    def send(request: httpx.Request) -> httpx.Request:
        if key and request.url.netloc == host:
            request.headers["Authorization"] = f"Key {key}"
        return request

    return send
