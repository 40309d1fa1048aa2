"""From our exceptions to status codes. Native and vox-serve clients read `detail`; no traceback reaches anybody."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from serve_app.errors import (
    BodyTooLarge,
    CsmServeError,
    GenerationFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
    StartupError,
    UnknownRequest,
)

_log = logging.getLogger(__name__)

_STATUS: dict[type[CsmServeError], int] = {
    BodyTooLarge: 413,
    InvalidRequest: 422,
    UnknownRequest: 404,
    Overloaded: 429,
    NotReady: 503,
    GenerationFailed: 500,
    StartupError: 500,
}


def error_response(error: CsmServeError) -> JSONResponse:
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    content = {"detail": str(error)}
    headers = {}
    if isinstance(error, InvalidRequest):
        content["field"] = error.field
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return JSONResponse(content, status, headers)


def invalid_request(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """The first thing that pydantic found, in our words for the place."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return InvalidRequest(field, first["msg"].removeprefix("Value error, "))


def install(app: FastAPI) -> None:
    """Have `app` answer every exception in this module's shape."""

    @app.exception_handler(CsmServeError)
    async def ours(request: Request, error: CsmServeError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(invalid_request(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("unexpected error at %s", request.url.path, exc_info=error)
        return error_response(GenerationFailed("an unexpected error; the server's log has it"))
