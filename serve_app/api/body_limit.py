"""Refuses bodies that are too large before they are read whole."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import BodyTooLarge

_SMALL_BYTES = 64 * 1024
_MAX_DIGITS = 18
"""Of a length: Python reads no number of thousands of digits."""


class BodyLimit:
    """ASGI middleware: by the declared length at once, by the counted bytes where none is declared.

    Raises BodyTooLarge to the route that reads the body, which renders it in its dialect. Routes below `streamed`
    count for themselves. Those below `small` take a few fields and no audio.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, streamed: Sequence[str] = (), small: Sequence[str] = ()) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._streamed = tuple(streamed)
        self._small = tuple(small)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path.startswith(self._streamed):
            await self._app(scope, receive, send)
            return
        limit = min(_SMALL_BYTES, self._max_bytes) if path.startswith(self._small) else self._max_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        is_too_large = declared.isdigit() and (len(declared) > _MAX_DIGITS or int(declared) > limit)
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            if is_too_large:
                raise _error(limit)
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                raise _error(limit)
            return message

        await self._app(scope, counted, send)


def _error(limit: int) -> BodyTooLarge:
    if limit <= _SMALL_BYTES:
        return BodyTooLarge("body", f"is larger than {limit} bytes: send the fields of this route alone")
    return BodyTooLarge("body", f"is larger than {limit / 2**20:g} MiB: send shorter or compressed (FLAC, MP3) audio")
