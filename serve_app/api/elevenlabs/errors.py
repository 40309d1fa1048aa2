"""Errors as ElevenLabs' clients read them: `{"detail": {"status", "message", …}}`."""

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import Scope

from serve_app.api.error_table import headers_of, status_of
from serve_app.api.field_names import FieldNames
from serve_app.errors import CsmServeError, InvalidRequest

KEY_HEADER = "xi-api-key"
VOICE = "voice_id"
_PATHS = ("/v1/text-to-speech/", "/v1/voices", "/v2/voices", "/v1/user")
_FIELD_NAMES = FieldNames({"turns": "text", "text": "text", "speaker": VOICE, "format": "output_format"})
_WORDS = {
    401: "invalid_api_key",
    403: "missing_permissions",
    404: "not_found",
    413: "request_too_large",
    422: "invalid_request",
    429: "too_many_concurrent_requests",
    503: "system_busy",
    504: "system_busy",
}


class ElevenLabsError(BaseModel):
    status: str
    """A word for programs."""
    message: str
    code: str
    """As `status`, where newer clients look for it."""
    param: str | None = None


class ElevenLabsErrorBody(BaseModel):
    detail: ElevenLabsError


def is_elevenlabs(scope: Scope) -> bool:
    """Whether a request is of this dialect, by its path or by the header that only its clients send."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith(_PATHS) or (path.startswith("/v1/") and has_key_header(scope))


def has_key_header(scope: Scope) -> bool:
    return any(name == KEY_HEADER.encode() for name, _ in scope.get("headers", ()))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` for these statuses."""
    return {status: {"model": ElevenLabsErrorBody, "description": "See `detail`"} for status in statuses}


def unknown_voice(voice: str) -> InvalidRequest:
    """Says nothing of the id itself, which a caller may have made of anything."""
    return InvalidRequest(VOICE, "no voice has this id: GET /v1/voices lists those of this server")


def described(error: CsmServeError) -> tuple[int, ElevenLabsError]:
    """The HTTP status of an error, and what its caller is told."""
    status, param = status_of(error), None
    if isinstance(error, InvalidRequest):
        # A text is a scene of one turn, but its caller sent `text` and not the text of a turn.
        param = _FIELD_NAMES.dotted(error.field.removeprefix("turns[0]."))
        error = error.at(param)
        if param == VOICE:
            return 404, _told("voice_not_found", str(error), param)
    return status, _told(_WORDS.get(status, "internal_error"), str(error), param)


def content(status: int, message: str) -> dict[str, Any]:
    word = _WORDS.get(status, "invalid_request" if status < 500 else "internal_error")
    return ElevenLabsErrorBody(detail=_told(word, message)).model_dump()


def error_answer(error: CsmServeError) -> JSONResponse:
    status, told = described(error)
    return JSONResponse(ElevenLabsErrorBody(detail=told).model_dump(), status, headers_of(error, "Bearer"))


def _told(word: str, message: str, param: str | None = None) -> ElevenLabsError:
    return ElevenLabsError(status=word, message=message, code=word, param=param)
