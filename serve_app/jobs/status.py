"""Queries for a job's status, result and log. Only the result query reads the output."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import count
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, case, func, insert, select, tuple_

from serve_app.errors import UnknownJob
from serve_app.jobs.job import PRIORITIES, Job, JobError, JobResult, JobState, JobStatus, LogEntry, LogLine
from serve_app.jobs.tables import BATCHES, JOBS, LOGS, RESULTS

IN_TURN = (JOBS.c.rank, JOBS.c.turn, JOBS.c.number)
_AHEAD = JOBS.alias("ahead")
_POSITION = (
    select(func.count())
    .select_from(_AHEAD)
    .where(
        _AHEAD.c.state == JobState.QUEUED,
        _AHEAD.c.application == JOBS.c.application,
        tuple_(_AHEAD.c.rank, _AHEAD.c.turn, _AHEAD.c.number) < tuple_(JOBS.c.rank, JOBS.c.turn, JOBS.c.number),
    )
    .correlate(JOBS)
    .scalar_subquery()
)
_NAMES = [field.name for field in fields(Job) if field.name in JOBS.c]
_COLUMNS = (JOBS.c.number, JOBS.c.rank, JOBS.c.error_type, *(JOBS.c[name] for name in _NAMES))
# Built once, because clients ask for a status ten times a second and building a statement takes longer than running it.
_THIS = (JOBS.c.id == bindparam("job_id"), JOBS.c.key_id == bindparam("key_id"))
JOB = select(*_COLUMNS).where(*_THIS)
STATUS = select(*_COLUMNS, case((JOBS.c.state == JobState.QUEUED, _POSITION)).label("position")).where(*_THIS)
_RESULT_COLUMNS = (*_COLUMNS, RESULTS.c.status_code, RESULTS.c.file_id, RESULTS.c.body)
RESULT = select(*_RESULT_COLUMNS).outerjoin_from(JOBS, RESULTS, RESULTS.c.number == JOBS.c.number).where(*_THIS)
BATCH = (
    select(*_RESULT_COLUMNS, BATCHES.c.position)
    .join_from(JOBS, BATCHES, BATCHES.c.number == JOBS.c.number)
    .outerjoin(RESULTS, RESULTS.c.number == JOBS.c.number)
    .where(BATCHES.c.batch_id == bindparam("batch_id"), JOBS.c.key_id == bindparam("key_id"))
    .order_by(BATCHES.c.position)
)
_LOG_COLUMNS = (LOGS.c.number, LOGS.c.at, LOGS.c.level, LOGS.c.message)
_LOGS = (
    select(*_LOG_COLUMNS)
    .where(LOGS.c.job == bindparam("job"), LOGS.c.number > bindparam("after"))
    .order_by(LOGS.c.number)
)


def find(connection: Connection, query: Select[*tuple[Any, ...]], job_id: str, key_id: str) -> Row[Any]:
    """The row of JOB, STATUS or RESULT for one job. Raises UnknownJob, also for a job of another key."""
    found = connection.execute(query, {"job_id": job_id, "key_id": key_id}).first()
    if found is None:
        raise UnknownJob(job_id)
    return found


def job_of(row: Row[Any]) -> Job:
    values = {name: row._mapping[name] for name in _NAMES}
    return Job(**values | {"state": JobState(row.state), "priority": PRIORITIES[row.rank], "error": _error_of(row)})


def result_of(row: Row[Any]) -> JobResult | None:
    """None while the job has not ended."""
    if row.body is None:
        return None
    error = _error_of(row)
    return JobResult(
        output=json.loads(row.body),
        error=error,
        inference_seconds=row.inference_seconds,
        file_id=row.file_id,
        rendered_status=row.status_code if error is not None and error.is_rendered else None,
    )


def _error_of(row: Row[Any]) -> JobError | None:
    if row.error_type is None:
        return None
    if not row.error.startswith("["):  # an older release: text, not the JSON of arguments
        return JobError(row.error_type, (row.error,), is_rendered=True)
    return JobError(row.error_type, tuple(json.loads(row.error)))


def statuses(connection: Connection, logs_after: Mapping[str, int | None]) -> dict[str, JobStatus]:
    """Of these jobs those that exist, with their log entries above the given number; None reads no log."""
    rows = connection.execute(select(*_COLUMNS).where(JOBS.c.id.in_(logs_after))).all()
    positions: dict[int, int] = {}
    if any(row.state == JobState.QUEUED for row in rows):
        queued = select(JOBS.c.number, JOBS.c.application).where(JOBS.c.state == JobState.QUEUED).order_by(*IN_TURN)
        ahead: defaultdict[str, Iterator[int]] = defaultdict(count)
        positions = {row.number: next(ahead[row.application]) for row in connection.execute(queued)}
    logs = _logs_of(connection, {row.number: after for row in rows if (after := logs_after[row.id]) is not None})
    return {row.id: JobStatus(job_of(row), positions.get(row.number), logs.get(row.number, ())) for row in rows}


def recent(connection: Connection, key_id: str, limit: int) -> list[JobStatus]:
    """The latest jobs of a key, newest first, without logs."""
    ids = connection.scalars(
        select(JOBS.c.id).where(JOBS.c.key_id == key_id).order_by(JOBS.c.number.desc()).limit(limit)
    ).all()
    found = statuses(connection, dict.fromkeys(ids))
    return [found[job_id] for job_id in ids]


def _logs_of(connection: Connection, after: Mapping[int, int]) -> dict[int, tuple[LogEntry, ...]]:
    if not after:
        return {}
    query = select(LOGS.c.job, *_LOG_COLUMNS).where(LOGS.c.job.in_(after), LOGS.c.number > min(after.values()))
    found: dict[int, list[LogEntry]] = {}
    for job, *entry in connection.execute(query.order_by(LOGS.c.number)):
        if entry[0] > after[job]:
            found.setdefault(job, []).append(LogEntry(*entry))
    return {job: tuple(entries) for job, entries in found.items()}


def log_of(connection: Connection, number: int, after: int) -> tuple[LogEntry, ...]:
    """Entries whose number is above `after`."""
    return tuple(LogEntry(*row) for row in connection.execute(_LOGS, {"job": number, "after": after}))


def append_log(connection: Connection, number: int, lines: Sequence[LogLine], max_lines: int) -> None:
    """Append to the log of a job, up to `max_lines` in all."""
    written = connection.scalar(select(func.count()).select_from(LOGS).where(LOGS.c.job == number)) or 0
    rows = [
        {"job": number, "at": line.at, "level": line.level, "message": line.message}
        for line in lines[: max(0, max_lines - written)]
    ]
    if rows:
        connection.execute(insert(LOGS), rows)
