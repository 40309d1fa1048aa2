"""The end of a job: its state, its one result and its webhook, in one transaction."""

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from serve_app.jobs import outbox
from serve_app.jobs.job import TRANSITIONS, JobResult, JobState
from serve_app.jobs.tables import INPUTS, JOBS, RESULTS, UNSTORED


def move(connection: Connection, job: Row[Any], target: JobState, **values: Any) -> JobState:
    """`job` is locked by this transaction; no other way leads from one state to another."""
    assert target in TRANSITIONS[JobState(job.state)], f"no job goes from {job.state} to {target}"
    of_nobody = {"owner": None, "lease_until": None}
    connection.execute(update(JOBS).where(JOBS.c.number == job.number).values(state=target, **of_nobody | values))
    return target


def end(connection: Connection, job: Row[Any], state: JobState, result: JobResult, now: float) -> JobState:
    """Give a job that is locked by this transaction its result. A second one cannot be written: it has the job's id."""
    move(
        connection,
        job,
        state,
        ended_at=now,
        error_type=result.error_type,
        error=result.error,
        inference_seconds=result.inference_seconds,
    )
    connection.execute(
        insert(RESULTS).values(
            number=job.number,
            attempt=job.attempt,
            status_code=result.status_code,
            file_id=result.file_id,
            body=json.dumps(result.body),
        )
    )
    unstored = select(UNSTORED.c.number).where(UNSTORED.c.number == job.number)
    connection.execute(delete(INPUTS).where(INPUTS.c.number.in_(unstored)))
    if job.webhook_url is not None:
        outbox.put(connection, job.id, job.key_id, job.webhook_url, result, now)
    return state
