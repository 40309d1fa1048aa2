"""Answers clients that left and exceptions that are faults of ours."""

import logging

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.error_responses import error_response_at
from serve_app.errors import GenerationFailed

_log = logging.getLogger(__name__)

_CLIENT_CLOSED_REQUEST = 499
"""Nginx's status for a client that left."""


class UnexpectedErrors:
    """ASGI middleware: answers 500 if nothing was sent yet, and breaks off a body that has begun.

    FastAPI's own handler runs outside of the CORS middleware, so pages of other origins could not read its answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_begun = False

        async def watched(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            if not is_begun:
                await Response(status_code=_CLIENT_CLOSED_REQUEST)(scope, receive, send)
        except Exception as error:
            if is_begun or scope["type"] != "http":
                raise
            _log.error("unexpected error at %s", scope["path"], exc_info=error)
            failed = GenerationFailed("an unexpected error; the server's log has it")
            await error_response_at(scope, failed)(scope, receive, send)
