"""Errors of the native dialect: a sentence in `detail`. No traceback reaches a client."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from serve_app.api.elevenlabs import errors as elevenlabs
from serve_app.api.error_table import headers_of, status_of
from serve_app.api.field_names import FieldNames
from serve_app.api.openai import errors as openai
from serve_app.errors import CsmServeError, InvalidRequest

FIELD_NAMES = FieldNames({"turns": "scene"})

_OURS_BELOW_V1 = ("/v1/conversations", "/v1/realtime/speech")

_WORDS = {
    "missing": "is missing: send it",
    "int_": "must be an integer, such as 3",
    "float_": "must be a number, such as 0.9",
    "finite_number": "must be a finite number",
    "bool_": "must be true or false",
    "string_": "must be a string",
    "list_type": "must be a list of objects",
    "model_type": "must be an object",
}
"""By the beginning of pydantic's error type, whose own messages talk about parsing."""


class ErrorBody(BaseModel):
    """The body of every error."""

    detail: str
    field: str | None = None


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` for these statuses."""
    return {status: {"model": ErrorBody, "description": "See `detail`"} for status in statuses}


def error_response(error: CsmServeError) -> JSONResponse:
    content = {"detail": str(error)}
    if isinstance(error, InvalidRequest):
        error = error.at(FIELD_NAMES.dotted(error.field))
        content = {"detail": str(error), "field": error.field}
    return JSONResponse(content, status_of(error), headers_of(error, "Bearer"))


def error_response_at(scope: Scope, error: CsmServeError) -> JSONResponse:
    """In the shape of the dialect that the path belongs to. fal's routes answer by themselves."""
    if elevenlabs.is_elevenlabs(scope):
        return elevenlabs.error_answer(error)
    return openai.error_answer(error) if _is_openai(scope) else error_response(error)


def _is_openai(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith(f"{openai.PREFIX}/") and not path.startswith(_OURS_BELOW_V1)


def invalid_request(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """The first error that pydantic found, in our words."""
    first = _first(error)
    field = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    message = first["msg"].removeprefix("Value error, ")
    return InvalidRequest(
        field, next((ours for kind, ours in _WORDS.items() if first["type"].startswith(kind)), message)
    )


def _first(error: ValidationError | RequestValidationError) -> Any:
    """Without the input that was wrong: it may be a whole file, or a text that no answer should repeat."""
    if isinstance(error, ValidationError):
        return error.errors(include_url=False, include_context=False, include_input=False)[0]
    return error.errors()[0]


def install(app: FastAPI) -> None:
    """Make `app` render every expected exception in this module's shape."""

    @app.exception_handler(CsmServeError)
    async def ours(request: Request, error: CsmServeError) -> JSONResponse:
        return error_response_at(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response_at(request.scope, invalid_request(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        status = error.status_code
        content: dict[str, Any] = {"detail": error.detail}
        if elevenlabs.is_elevenlabs(request.scope):
            content = elevenlabs.content(status, error.detail)
        elif _is_openai(request.scope):
            content = openai.content(status, error.detail)
        return JSONResponse(content, status, error.headers)
