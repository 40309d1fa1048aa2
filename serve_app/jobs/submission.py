"""Accepting a job, and recognising a submit that is repeated.

A client repeats a submit when it got no answer: its connection broke, it timed out, or a proxy answered 5xx for a
server that died. A job therefore counts as unanswered until its answer was sent (`JobQueue.answered`). An equal submit
is taken for a repetition only if the earlier one is still unanswered after `jobs.resend_wait_seconds`, and it waits
that long. Two deliberate submits stay two jobs, because the first one is answered.
"""

import json
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from serve_app.errors import InvalidRequest, LimitReached, NotRetryable, Overloaded
from serve_app.jobs.job import PRIORITIES, JobState, NewJob
from serve_app.jobs.shares import next_turn
from serve_app.jobs.tables import INPUTS, JOB_FILES, JOBS, UNSTORED
from serve_app.settings import JobSettings
from serve_app.store.database import lock_name

MAX_IDEMPOTENCY_KEY_CHARS = 255

_SUBMITTING = 7_210_033
"""PostgreSQL advisory lock, one for each fingerprint: equal submits must see each other."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One call to submit. `came_at` is when it arrived, `now` is the time of this try."""

    new: NewJob
    came_at: float
    now: float


def submit(connection: Connection, submission: Submission, settings: JobSettings) -> str | None:
    """The id of the new or the existing job. None while an equal submit is still being answered.

    Raises InvalidRequest if the idempotency key belongs to another request, Overloaded if the queue is full.
    """
    lock_name(connection, _SUBMITTING, submission.new.fingerprint)
    if submission.new.idempotency_key is not None:
        known = _with_idempotency_key(connection, submission.new)
    else:
        known = _repeated(connection, submission, settings)
        if known is None and _is_being_answered(connection, submission, settings):
            return None
    return known or _insert(connection, submission, settings)


def _with_idempotency_key(connection: Connection, new: NewJob) -> str | None:
    if len(new.idempotency_key or "") > MAX_IDEMPOTENCY_KEY_CHARS:
        raise InvalidRequest("idempotency_key", f"has more than {MAX_IDEMPOTENCY_KEY_CHARS} characters: send a UUID")
    found = connection.execute(
        select(JOBS.c.id, JOBS.c.fingerprint, JOBS.c.application).where(
            JOBS.c.key_id == new.key_id, JOBS.c.idempotency_key == new.idempotency_key
        )
    ).first()
    if found is None:
        return None
    if found.fingerprint != new.fingerprint or found.application not in ("", new.application):
        raise InvalidRequest("idempotency_key", "was used for another request: send a new one with each request")
    return found.id


def _repeated(connection: Connection, submission: Submission, settings: JobSettings) -> str | None:
    """The unanswered job that this submit repeats. Each is returned once, so that two repeated submits get two jobs."""
    unanswered = JOBS.c.unanswered_since
    job_id = connection.scalar(
        select(JOBS.c.id)
        .where(
            *_equal(submission.new),
            unanswered > submission.now - settings.resend_seconds,
            unanswered <= submission.now - settings.resend_wait_seconds,
        )
        .order_by(JOBS.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if job_id is not None:
        connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(unanswered_since=submission.now))
    return job_id


def _is_being_answered(connection: Connection, submission: Submission, settings: JobSettings) -> bool:
    """Whether an equal submit arrived before this one, is unanswered, and may still be answered."""
    unanswered = JOBS.c.unanswered_since
    earlier = connection.scalar(
        select(JOBS.c.id)
        .where(
            *_equal(submission.new),
            unanswered > submission.now - min(settings.resend_wait_seconds, settings.resend_seconds),
            unanswered <= submission.came_at,
        )
        .limit(1)
    )
    return earlier is not None


def _equal(new: NewJob) -> tuple[ColumnElement[bool], ...]:
    return JOBS.c.fingerprint == new.fingerprint, JOBS.c.application == new.application


def again(connection: Connection, job: Row[Any]) -> NewJob:
    """What an earlier job was submitted as. Raises NotRetryable."""
    if job.state != JobState.FAILED:
        raise NotRetryable(f"job {job.id} is {job.state}, and only a failed job can be run again")
    query = select(INPUTS.c.input, INPUTS.c.headers, JOBS.c.webhook_url)
    stored = connection.execute(query.join_from(INPUTS, JOBS).where(INPUTS.c.number == job.number)).first()
    if stored is None:
        raise NotRetryable(f"job {job.id}: its input is not kept any more (jobs.retryable_seconds); send it again")
    files = connection.scalars(select(JOB_FILES.c.file_id).where(JOB_FILES.c.number == job.number))
    return NewJob(
        endpoint=job.endpoint,
        key_id=job.key_id,
        input=json.loads(stored.input),
        priority=PRIORITIES[job.rank],
        webhook_url=stored.webhook_url,
        headers=json.loads(stored.headers),
        file_ids=tuple(files),
        application=job.application,
    )


def _insert(connection: Connection, submission: Submission, settings: JobSettings) -> str:
    new, now = submission.new, submission.now
    queued = (JOBS.c.state == JobState.QUEUED, JOBS.c.application == new.application)
    waiting = connection.scalar(select(func.count()).select_from(JOBS).where(*queued))
    if (waiting or 0) >= settings.max_queued:
        raise Overloaded(
            f"{waiting} jobs are waiting, the limit is jobs.max_queued: try again later", retry_after_seconds=5
        )
    ours = connection.scalar(select(func.count()).select_from(JOBS).where(JOBS.c.key_id == new.key_id, *queued))
    if (ours or 0) >= settings.max_queued_per_key:
        raise LimitReached(
            f"{ours} jobs of this key are waiting, the limit is jobs.max_queued_per_key: try again later", 5
        )
    job_id = str(uuid.uuid4())
    number = connection.scalar(
        insert(JOBS)
        .values(
            id=job_id,
            endpoint=new.endpoint,
            key_id=new.key_id,
            state=JobState.QUEUED,
            rank=PRIORITIES.index(new.priority),
            created_at=now,
            available_at=now,
            start_by=now + (new.start_timeout_seconds or settings.start_timeout_seconds),
            max_attempts=new.max_attempts or settings.max_attempts,
            webhook_url=new.webhook_url,
            idempotency_key=new.idempotency_key,
            fingerprint=new.fingerprint,
            unanswered_since=now,
            turn=next_turn(connection, new.application, new.key_id, new.cost_seconds),
            application=new.application,
        )
        .returning(JOBS.c.number)
    )
    connection.execute(
        insert(INPUTS).values(number=number, input=json.dumps(new.input), headers=json.dumps(dict(new.headers)))
    )
    if new.file_ids:
        files = [{"number": number, "file_id": file_id} for file_id in sorted(set(new.file_ids))]
        connection.execute(insert(JOB_FILES), files)
    if not new.stores_io:
        connection.execute(insert(UNSTORED).values(number=number))
    return job_id
