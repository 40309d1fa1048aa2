"""From our exceptions to status codes. Native and vox-serve clients read `detail`; no traceback reaches anybody."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from serve_app.errors import (
    BodyTooLarge,
    Cancelled,
    CsmServeError,
    FileTooLarge,
    Forbidden,
    GenerationFailed,
    InternalError,
    InvalidRequest,
    InvalidSignature,
    NotReady,
    Overloaded,
    RunnerLost,
    StartTimeout,
    StartupError,
    StorageFailed,
    Unauthorized,
    UnknownFile,
    UnknownJob,
    UnknownRequest,
)

_STATUS: dict[type[CsmServeError], int] = {
    BodyTooLarge: 413,
    FileTooLarge: 413,
    InvalidRequest: 422,
    Unauthorized: 401,
    Forbidden: 403,
    UnknownRequest: 404,
    UnknownJob: 404,
    UnknownFile: 404,
    InvalidSignature: 403,
    StorageFailed: 503,
    Overloaded: 429,
    NotReady: 503,
    StartTimeout: 504,
    GenerationFailed: 500,
    Cancelled: 499,
    RunnerLost: 503,
    InternalError: 500,
    StartupError: 500,
}

_WORDS = {
    "missing": "is missing: every item needs it",
    "int_": "must be an integer, such as 3",
    "float_": "must be a number, such as 0.9",
    "finite_number": "must be a finite number",
    "bool_": "must be true or false",
    "string_": "must be a string",
    "list_type": "must be a list of objects",
    "model_type": "must be an object",
}
"""By how pydantic's name of the error starts; its own words speak of inputs and parsing."""


class ErrorBody(BaseModel):
    """What every error is answered with."""

    detail: str
    field: str | None = None


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses for a route's `responses`."""
    return {status: {"model": ErrorBody, "description": "See `detail`"} for status in statuses}


def status_of(error: CsmServeError) -> int:
    """The same in every dialect."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def error_response(error: CsmServeError) -> JSONResponse:
    content = {"detail": str(error)}
    headers = {}
    if isinstance(error, InvalidRequest):
        content["field"] = error.field
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return JSONResponse(content, status_of(error), headers)


def invalid_request(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """The first thing that pydantic found, in our words for place and reason."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    message = first["msg"].removeprefix("Value error, ")
    return InvalidRequest(
        field, next((ours for kind, ours in _WORDS.items() if first["type"].startswith(kind)), message)
    )


def install(app: FastAPI) -> None:
    """Have `app` answer every expected exception in this module's shape."""

    @app.exception_handler(CsmServeError)
    async def ours(request: Request, error: CsmServeError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(invalid_request(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
