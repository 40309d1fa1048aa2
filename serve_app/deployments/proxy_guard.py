"""Limits on what a client may send and keep open before a request begins, in the process that takes connections.

Serve's proxy runs uvicorn with httptools, which bounds neither the size of headers nor the time for them. uvicorn has
no option for it, so `install` puts this protocol in place of that one. Serve calls it in each of its HTTP processes,
where `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` names it.
"""

import asyncio
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve_app.api.door import at_the_door
from serve_app.deployments import haproxy_guard

PROXY_GUARDS = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}:install",
    "RAY_SERVE_HAPROXY_BINARY_PATH": haproxy_guard.COMMAND,
}
"""What the environment of Ray's processes should say, for Serve's own proxy and for its HAProxy."""

MAX_SILENT_BYTES = 64 * 1024
"""Of headers, of a chunk's extension, of trailers: bytes that bring the request no further."""
HEADER_SECONDS = 20.0
"""From a connection, or from the first byte of its next request, to the end of the headers."""
BODY_SECONDS = 600.0
"""For a whole body. It is the time in which a slow line sends the largest one."""
STALLED_SECONDS = 120.0
"""A client that reads nothing for so long has left. What it does not read is held in memory."""
MAX_CONNECTIONS = 8192

_MODEL_ID = b"serve_multiplexed_model_id"


def install() -> list[Any]:
    """Have uvicorn use the guarded protocol in this process. Returns what Serve puts before its proxy."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{GuardedProtocol.__name__}"
    return [at_the_door(MAX_CONNECTIONS)]


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which ends connections that cost more than they bring."""

    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _is_waiting = True
    """For the first byte of a request."""
    _num_silent = 0
    _has_progress = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._set_deadline(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_deadline(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_waiting and self._deadline is None:
            self._set_deadline(HEADER_SECONDS)
        self._has_progress = False
        super().data_received(data)
        # At most one read of the transport, 256 KiB, is beyond the bound.
        self._num_silent = 0 if self._has_progress else self._num_silent + len(data)
        if self._num_silent > MAX_SILENT_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        self._has_progress = True
        self._set_deadline(None)
        super().handle_websocket_upgrade()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == _MODEL_ID:
            return  # Serve reads it as text and fails on other bytes; this server's models are not chosen by it
        super().on_header(name, _as_utf8(value))

    def on_headers_complete(self) -> None:
        self._progress()
        self._is_waiting = False
        self._set_deadline(BODY_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress()
        self._is_waiting = True
        self._set_deadline(None)
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self._stall or self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def _progress(self) -> None:
        self._has_progress = True

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def _as_utf8(value: bytes) -> bytes:
    """Serve reads some headers as UTF-8 and answers 500 to other bytes. A client that sends those means Latin-1."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 29\r\nconnection: close\r\n\r\n"
    b"the request's head is too big"
)
