"""Ends that no work told of, with fal's words and status codes for them."""

from serve_app.jobs.job import JobResult


def cancelled() -> JobResult:
    return JobResult.failure(499, "client_cancelled", "the request was cancelled")


def not_started() -> JobResult:
    return JobResult.failure(504, "request_timeout", "the request did not start in time; send it again")


def runner_lost() -> JobResult:
    return JobResult.failure(503, "runner_disconnected", "the process that ran the request died; send it again")


def unexpected() -> JobResult:
    """Of what was not raised on purpose: the cause is in the runner's log, and nowhere else."""
    return JobResult.failure(500, "internal_error", "the server failed; its log has the reason")
