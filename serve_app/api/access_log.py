"""One line for each request: method, route, status, and how soon and how much was spoken.

The route stands for the path, and nothing else of the request is logged: a path or query may hold a text or a key.
"""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.log import ACCESS_MARK, ROOT
from serve_app.speech.answer import Answer
from serve_app.speech.heard import opened_answers

_log = logging.getLogger(f"{ROOT}.access")
_PROBES = frozenset({"/", "/health", "/ready", "/metrics"})
"""Asked again and again by monitors and by the page."""
_UNKNOWN = "an unknown path"


class AccessLog:
    """ASGI middleware. Probes and files of the page are logged at DEBUG, all others at INFO."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        answers: list[Answer] = []
        status = "broken off"
        token = opened_answers.set(answers)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            elif message["type"] == "websocket.accept":
                status = "connected"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            opened_answers.reset(token)
            route = getattr(scope.get("route"), "path", _UNKNOWN)
            level = logging.DEBUG if route in _PROBES or route.startswith("/playground/") else logging.INFO
            method = scope.get("method", "WS")
            _log.log(level, "%s%s %s %s, %s", ACCESS_MARK, method, route, status, _told(answers, began))


def _told(answers: list[Answer], began: float) -> str:
    if not answers:
        return f"{1000 * (time.monotonic() - began):.0f} ms"
    first = answers[0].first_audio_at
    heard = "no audio" if first is None else f"first audio {1000 * (first - began):.0f} ms"
    seconds = sum(answer.outcome.audio_seconds for answer in answers)
    ends = ", ".join(sorted({str(answer.outcome.finish_reason) for answer in answers}))
    return f"{heard}, {seconds:.2f} s of audio, {ends}"
