"""What callers ask of their jobs. Nothing here writes, and only `result` reads what a job gave."""

import json
from typing import Any

from sqlalchemy import Column, Connection, Row, Select, bindparam, case, func, select, tuple_

from serve_app.errors import UnknownJob
from serve_app.jobs.job import PRIORITIES, Backlog, Job, JobResult, JobState, JobStatus, LogEntry
from serve_app.jobs.tables import JOBS, LOGS, RESULTS

_AHEAD = JOBS.alias("ahead")
_POSITION = (
    select(func.count())
    .select_from(_AHEAD)
    .where(
        _AHEAD.c.state == JobState.QUEUED, tuple_(_AHEAD.c.rank, _AHEAD.c.number) < tuple_(JOBS.c.rank, JOBS.c.number)
    )
    .correlate(JOBS)
    .scalar_subquery()
)
_COLUMNS: tuple[Column[Any], ...] = (
    JOBS.c.number,
    JOBS.c.id,
    JOBS.c.endpoint,
    JOBS.c.key_id,
    JOBS.c.state,
    JOBS.c.rank,
    JOBS.c.created_at,
    JOBS.c.started_at,
    JOBS.c.ended_at,
    JOBS.c.attempt,
    JOBS.c.reason,
    JOBS.c.error_type,
    JOBS.c.error,
    JOBS.c.inference_seconds,
)


# Built once: that takes longer than to run them, and clients ask for a status ten times a second.
_THIS = (JOBS.c.id == bindparam("job_id"), JOBS.c.key_id == bindparam("key_id"))
_JOB = select(*_COLUMNS).where(*_THIS)
_STATUS = select(*_COLUMNS, case((JOBS.c.state == JobState.QUEUED, _POSITION)).label("position")).where(*_THIS)
_RESULT = (
    select(*_COLUMNS, RESULTS.c.status_code, RESULTS.c.file_id, RESULTS.c.body)
    .outerjoin_from(JOBS, RESULTS, RESULTS.c.number == JOBS.c.number)
    .where(*_THIS)
)
_LOGS = (
    select(LOGS.c.number, LOGS.c.at, LOGS.c.level, LOGS.c.message)
    .where(LOGS.c.job == bindparam("job"), LOGS.c.number > bindparam("after"))
    .order_by(LOGS.c.number)
)


def _one(connection: Connection, query: Select[*tuple[Any, ...]], job_id: str, key_id: str) -> Row[Any]:
    found = connection.execute(query, {"job_id": job_id, "key_id": key_id}).first()
    if found is None:
        raise UnknownJob(job_id)
    return found


def job(connection: Connection, job_id: str, key_id: str) -> Job:
    return _job(_one(connection, _JOB, job_id, key_id))


def status(connection: Connection, job_id: str, key_id: str, logs_after: int | None) -> JobStatus:
    """One statement, and one for the logs where they are asked for."""
    found = _one(connection, _STATUS, job_id, key_id)
    logs = () if logs_after is None else _logs(connection, found.number, logs_after)
    return JobStatus(_job(found), found.position, logs)


def result(connection: Connection, job_id: str, key_id: str) -> JobResult | None:
    found = _one(connection, _RESULT, job_id, key_id)
    if found.body is None:
        return None
    return JobResult(
        found.status_code,
        json.loads(found.body),
        found.error_type,
        found.error,
        found.inference_seconds,
        found.file_id,
    )


def backlog(connection: Connection) -> Backlog:
    unfinished = (JobState.QUEUED, JobState.RUNNING)
    query = select(JOBS.c.state, func.count()).where(JOBS.c.state.in_(unfinished)).group_by(JOBS.c.state)
    counts = {state: count for state, count in connection.execute(query)}
    return Backlog(counts.get(JobState.QUEUED, 0), counts.get(JobState.RUNNING, 0))


def _logs(connection: Connection, number: int, after: int) -> tuple[LogEntry, ...]:
    return tuple(LogEntry(*row) for row in connection.execute(_LOGS, {"job": number, "after": after}))


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        endpoint=row.endpoint,
        key_id=row.key_id,
        state=JobState(row.state),
        priority=PRIORITIES[row.rank],
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        attempt=row.attempt,
        reason=row.reason,
        error_type=row.error_type,
        error=row.error,
        inference_seconds=row.inference_seconds,
    )
