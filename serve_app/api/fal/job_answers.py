"""Results and errors of jobs in fal's words, for status answers, results and webhooks."""

from typing import Any

from serve_app.api.error_responses import status_of
from serve_app.api.fal.errors import error_content, input_type
from serve_app.errors import InternalError, InvalidRequest
from serve_app.jobs.job import JobError, JobResult


def answer_of(result: JobResult) -> tuple[int, dict[str, Any]]:
    """HTTP status and body."""
    if result.rendered_status is not None:
        return result.rendered_status, result.output or {}
    if result.error is None:
        return 200, result.output or {}
    error = result.error.exception() or InternalError(str(result.error))
    return status_of(error), error_content(error)


def error_type_of(error: JobError) -> str:
    """fal's name for the error, which every failed job has."""
    if error.is_rendered:
        return error.kind
    exception = error.exception() or InternalError(str(error))
    if isinstance(exception, InvalidRequest):
        return input_type(exception)
    return error_content(exception).get("error_type", "internal_error")
