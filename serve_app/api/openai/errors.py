"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`."""

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from serve_app.api.error_table import headers_of, is_retryable, status_of
from serve_app.api.field_names import FieldNames
from serve_app.errors import CsmServeError, InvalidRequest

PREFIX = "/v1"
_FIELD_NAMES = FieldNames({"turns": "input", "text": "input", "speaker": "voice", "format": "response_format"})
ITEMS = "items"
_INVALID = "invalid_request_error"
_OURS_TO_THEIRS = {422: 400}
"""Where OpenAI has another status than the table of all dialects."""
_CODES = {
    401: "invalid_api_key",
    403: "insufficient_permissions",
    404: "not_found",
    413: "request_too_large",
    429: "rate_limit_exceeded",
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAiError(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiErrorBody(BaseModel):
    error: OpenAiError


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` for these statuses."""
    return {status: {"model": OpenAiErrorBody, "description": "See `error`"} for status in statuses}


def error_content(error: CsmServeError) -> dict[str, Any]:
    param = None
    if isinstance(error, InvalidRequest):
        param = param_of(error.field)
        error = error.at(param)
    return content(_status(error), str(error), param)


def param_of(field: str) -> str:
    """A neutral path in OpenAI's names. One that begins with an item of a batch has them already."""
    if field.startswith(ITEMS):
        return field
    # An input is a scene of one turn, but its caller sent `input` and not the text of a turn.
    return _FIELD_NAMES.dotted(field.removeprefix("turns[0]."))


def content(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = _TYPES.get(status, _INVALID if status < 500 else "server_error")
    found = OpenAiError(message=message, type=kind, param=param, code=code or _CODES.get(status))
    return OpenAiErrorBody(error=found).model_dump()


def error_answer(error: CsmServeError) -> JSONResponse:
    """The client tries again where `x-should-retry` says so, whatever the status."""
    retry = {"x-should-retry": str(is_retryable(status_of(error))).lower()}
    return JSONResponse(error_content(error), _status(error), headers_of(error, "Bearer") | retry)


def _status(error: CsmServeError) -> int:
    status = status_of(error)
    return _OURS_TO_THEIRS.get(status, status)
