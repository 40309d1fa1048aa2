"""Errors in fal's two shapes: a list of places for bad input, a sentence for all others."""

import re
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import HTTPConnection

from serve_app.api.error_table import headers_of, is_retryable, status_of
from serve_app.api.field_names import FieldNames
from serve_app.errors import (
    AudioTooLong,
    BodyTooLarge,
    Cancelled,
    CsmServeError,
    DownloadFailed,
    FileTooLarge,
    GenerationFailed,
    InternalError,
    InvalidAudio,
    InvalidRequest,
    NotReady,
    Overloaded,
    ReplicaLost,
    RunnerLost,
    StartTimeout,
    StorageFailed,
)

REQUEST_ID = "x-fal-request-id"
REQUEST_TIMEOUT = "request_timeout"
USER_TIMEOUT = {"X-Fal-Request-Timeout-Type": "user"}
"""Tells the client that its own start timeout passed, so that it does not try again."""
WEBHOOK_FIELD = "fal_webhook"
IDEMPOTENCY_KEY = "Idempotency-Key"

FIELD_NAMES = FieldNames(
    {
        "turns": "scene",
        "turns[].speaker": "speaker_id",
        "context[].speaker": "speaker_id",
        "context[].text": "prompt",
        "context[].audio": "audio_url",
        "format": "output_format",
        "part_number": "partNumber",
    }
)
_INPUT_TYPES: dict[type[InvalidRequest], str] = {
    DownloadFailed: "file_download_error",
    FileTooLarge: "file_too_large",
    BodyTooLarge: "file_too_large",
    AudioTooLong: "audio_duration_too_long",
    InvalidAudio: "unsupported_audio_format",
    InvalidRequest: "value_error",
}
_INFRA_TYPES: dict[type[CsmServeError], str] = {
    ReplicaLost: "runner_disconnected",
    GenerationFailed: "runner_server_error",
    NotReady: "runner_scheduling_failure",
    StartTimeout: REQUEST_TIMEOUT,
    Overloaded: "rate_limited",
    StorageFailed: "internal_error",
    Cancelled: "client_cancelled",
    RunnerLost: "runner_disconnected",
    InternalError: "internal_error",
}
_MAX_PROBLEMS = 20
_JOB_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


class InputProblem(BaseModel):
    """One place in the input. `loc` begins with `body`, `query` or `header`."""

    loc: list[str | int]
    msg: str
    type: str


class InputErrorBody(BaseModel):
    detail: list[InputProblem]


class InfraErrorBody(BaseModel):
    detail: str
    error_type: str | None = None


def input_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": InputErrorBody, "description": "What is wrong, and where"} for status in statuses}


def infra_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": InfraErrorBody, "description": "See `detail`"} for status in statuses}


def place(field: str) -> list[str | int]:
    """A neutral path, such as `context[0].audio`, as fal writes it."""
    if field == WEBHOOK_FIELD:
        return ["query", field]
    if field.startswith("x-fal-"):
        return ["header", field]
    if field == "idempotency_key":
        return ["header", IDEMPOTENCY_KEY]
    parts = FIELD_NAMES.place(field)
    return ["body"] if parts == ("body",) else ["body", *parts]


def sentence(error: CsmServeError) -> str:
    """The error in one line, with the field in fal's names."""
    return str(error.at(FIELD_NAMES.dotted(error.field)) if isinstance(error, InvalidRequest) else error)


def error_content(error: CsmServeError) -> dict[str, Any]:
    """The body of the error, for answers and for results of jobs."""
    if isinstance(error, InvalidRequest):
        problem = InputProblem(loc=place(error.field), msg=error.message, type=input_type(error))
        return {"detail": [problem.model_dump()]}
    content: dict[str, Any] = {"detail": str(error)}
    if error_type := next((_INFRA_TYPES[kind] for kind in type(error).__mro__ if kind in _INFRA_TYPES), None):
        content["error_type"] = error_type
    return content


def input_type(error: InvalidRequest) -> str:
    """fal's type of the error."""
    return next(_INPUT_TYPES[kind] for kind in type(error).__mro__ if kind in _INPUT_TYPES)


def error_answer(error: CsmServeError) -> JSONResponse:
    headers = headers_of(error, "Key") | (USER_TIMEOUT if isinstance(error, StartTimeout) else {})
    return answered(error_content(error), status_of(error), headers)


def answered(content: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response for an error's body, with fal's headers."""
    known = {"X-Fal-Retryable": str(is_retryable(status)).lower()}
    if error_type := content.get("error_type"):
        known["X-Fal-Error-Type"] = error_type
    return JSONResponse(content, status, known | (headers or {}))


def validation_content(error: RequestValidationError) -> dict[str, Any]:
    """pydantic's messages, as fal sends them. The wrong input is left out, since it may be a whole file."""
    found = error.errors()[:_MAX_PROBLEMS]
    problems = [InputProblem(loc=list(e["loc"]), msg=e["msg"], type=e["type"]) for e in found]
    return {"detail": [problem.model_dump() for problem in problems]}


def in_body(error: ValidationError) -> RequestValidationError:
    """The error of a body that a route validated by itself."""
    return RequestValidationError(
        [
            found | {"loc": ("body", *found["loc"])}
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    )


class FalRoute(APIRoute):
    """A route that renders errors in fal's shapes and names the request in every answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = _nameless() if "\0" in request.scope["path"] else await handler(request)
            except CsmServeError as error:
                response = error_answer(error)
            except RequestValidationError as error:
                response = answered(validation_content(error), 422)
            response.headers[REQUEST_ID] = request_id_of(request)
            response.headers.update(getattr(request.state, "added_headers", {}))
            return response

        return answer


def _nameless() -> JSONResponse:
    """The answer to a path with a NUL, which PostgreSQL cannot store."""
    return answered({"detail": "nothing has this name"}, 404)


def request_id_of(request: Request) -> str:
    """The id of the job in the path, or a new one for this request, kept for later calls."""
    if _JOB_ID.fullmatch(job_id := request.path_params.get("request_id", "")):
        return job_id
    if not hasattr(request.state, "fal_request_id"):
        name_request(request, str(uuid.uuid4()))
    return request.state.fal_request_id


def add_headers(connection: HTTPConnection, headers: dict[str, str]) -> None:
    """Add headers to the answer of an HTTP request. A WebSocket has sent its headers already."""
    connection.state.added_headers = headers


def name_request(request: Request, request_id: str) -> None:
    """Set the id that the answer carries."""
    request.state.fal_request_id = request_id
