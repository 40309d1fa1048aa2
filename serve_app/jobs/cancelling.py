"""Cancelling a job: one that waits is over, one that runs is stopped by its runner."""

from sqlalchemy import Connection, select, update

from serve_app.jobs import failures
from serve_app.jobs.ending import end
from serve_app.jobs.job import CancelAnswer, JobState
from serve_app.jobs.tables import JOBS


def cancel(connection: Connection, job_id: str, key_id: str, now: float) -> CancelAnswer | None:
    """None for an unknown job."""
    job = connection.execute(select(JOBS).where(JOBS.c.id == job_id, JOBS.c.key_id == key_id).with_for_update()).first()
    if job is None:
        return None
    match JobState(job.state):
        case JobState.QUEUED:
            end(connection, job, JobState.CANCELLED, failures.cancelled(), now)
            return CancelAnswer.CANCELLED
        case JobState.RUNNING:
            connection.execute(update(JOBS).where(JOBS.c.number == job.number).values(cancel_requested=True))
            return CancelAnswer.REQUESTED
        case _:
            return CancelAnswer.ALREADY_COMPLETED
