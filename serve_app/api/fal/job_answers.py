"""Results and errors of jobs in fal's words, for status answers, results and webhooks."""

from typing import Any

from serve_app.api.error_table import status_of
from serve_app.api.fal.errors import FIELD_NAMES, error_content, input_type
from serve_app.errors import CsmServeError, InternalError, InvalidRequest
from serve_app.jobs.job import JobError, JobResult


def answer_of(result: JobResult) -> tuple[int, dict[str, Any]]:
    """HTTP status and body."""
    if result.rendered_status is not None:
        return result.rendered_status, result.output or {}
    if result.error is None:
        return 200, result.output or {}
    error = _exception(result.error)
    return status_of(error), error_content(error)


def error_of(error: JobError) -> dict[str, str]:
    """Text and type of the error. Every failed job has both."""
    if error.is_rendered:
        return {"error": str(error), "error_type": error.kind}
    exception = _exception(error)
    if isinstance(exception, InvalidRequest):
        text = str(exception.at(FIELD_NAMES.dotted(exception.field)))
        return {"error": text, "error_type": input_type(exception)}
    return {"error": str(exception), "error_type": error_content(exception).get("error_type", "internal_error")}


def _exception(error: JobError) -> CsmServeError:
    return error.exception() or InternalError(str(error))
