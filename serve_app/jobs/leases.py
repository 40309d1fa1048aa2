"""What runners do to jobs: take, hold, give back, end. Each call says which attempt it speaks for, and changes nothing
once that attempt is not the job's current one any more."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from serve_app.jobs import failures
from serve_app.jobs.ending import end, move
from serve_app.jobs.job import JobResult, JobState, LeasedJob, run_id
from serve_app.jobs.tables import INPUTS, JOBS
from serve_app.settings import JobSettings


def _may_start(now: float) -> Any:
    """In time: a job that started once may take as long as it needs."""
    in_time = JOBS.c.started_at.is_not(None) | (JOBS.c.start_by > now)
    return (JOBS.c.state == JobState.QUEUED) & (JOBS.c.available_at <= now) & in_time


def is_waiting(connection: Connection, now: float, but_of: Collection[str] = ()) -> bool:
    """Whether `take` would find a job, without its transaction: idle runners ask five times a second."""
    waiting = select(JOBS.c.number).where(_may_start(now), JOBS.c.key_id.not_in(but_of))
    return connection.scalar(waiting.limit(1)) is not None


def take(
    connection: Connection, owner: str, now: float, settings: JobSettings, but_of: Collection[str] = ()
) -> LeasedJob | None:
    """Lease the job whose turn it is, of keys other than `but_of`."""
    job = connection.execute(
        select(JOBS)
        .where(_may_start(now), JOBS.c.key_id.not_in(but_of))
        .order_by(JOBS.c.rank, JOBS.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if job is None:
        return None
    given = connection.execute(select(INPUTS).where(INPUTS.c.number == job.number)).one()
    move(
        connection,
        job,
        JobState.RUNNING,
        attempt=job.attempt + 1,
        started_at=job.started_at or now,
        owner=owner,
        lease_until=now + settings.lease_seconds,
    )
    return LeasedJob(
        id=job.id,
        attempt=job.attempt + 1,
        owner=owner,
        endpoint=job.endpoint,
        key_id=job.key_id,
        input=json.loads(given.input),
        headers=json.loads(given.headers),
        created_at=job.created_at,
        failures=job.failures,
        started_before=job.started_at,
    )


def _current(leased: LeasedJob) -> Any:
    return (JOBS.c.id == leased.id) & (JOBS.c.state == JobState.RUNNING) & (JOBS.c.attempt == leased.attempt)


def _locked(connection: Connection, leased: LeasedJob) -> Row[Any] | None:
    return connection.execute(select(JOBS).where(_current(leased)).with_for_update()).first()


def hold(connection: Connection, held: Iterable[LeasedJob], now: float, settings: JobSettings) -> set[str]:
    """Renew the leases; returns the `run_id`s of those that were lost or cancelled: their work is to be stopped."""
    to_stop = set()
    for leased in held:
        renewed = connection.execute(
            update(JOBS)
            .where(_current(leased))
            .values(lease_until=now + settings.lease_seconds)
            .returning(JOBS.c.cancel_requested)
        ).first()
        if renewed is None or renewed.cancel_requested:
            to_stop.add(leased.run_id)
    return to_stop


def cancel_requests(connection: Connection, owner: str) -> set[str]:
    """The `run_id`s of those that `owner` holds and their callers cancelled."""
    cancelled = select(JOBS.c.id, JOBS.c.attempt).where(
        JOBS.c.state == JobState.RUNNING, JOBS.c.owner == owner, JOBS.c.cancel_requested
    )
    return {run_id(*row) for row in connection.execute(cancelled)}


def finish(connection: Connection, leased: LeasedJob, result: JobResult, now: float) -> JobState | None:
    """Record how the job ended. This and what follows returns its state now; None, and nothing done, if it was lost."""
    job = _locked(connection, leased)
    if job is None:
        return None
    return end(connection, job, JobState.COMPLETED if result.is_success else JobState.FAILED, result, now)


def give_back(connection: Connection, leased: LeasedJob, reason: str, now: float) -> JobState | None:
    """Let another runner have it at once: this one stops. A job that was cancelled is over."""
    return _put_back(connection, leased, now, reason=reason)


def refuse(connection: Connection, leased: LeasedJob, reason: str, now: float, available_at: float) -> JobState | None:
    """There was no room to run it: that is no attempt, and it has not started."""
    values = {"reason": reason, "available_at": available_at, "started_at": leased.started_before}
    return _put_back(connection, leased, now, **values)


def _put_back(connection: Connection, leased: LeasedJob, now: float, **values: Any) -> JobState | None:
    job = _locked(connection, leased)
    if job is None:
        return None
    if job.cancel_requested:
        return end(connection, job, JobState.CANCELLED, failures.cancelled(), now)
    return move(connection, job, JobState.QUEUED, **values)


def retry(
    connection: Connection, leased: LeasedJob, result: JobResult, now: float, available_at: float
) -> JobState | None:
    """An attempt failed with `result`: another one follows, or that is how the job ends."""
    job = _locked(connection, leased)
    return None if job is None else _fail(connection, job, result, now, available_at)


def _fail(connection: Connection, job: Row[Any], result: JobResult, now: float, available_at: float) -> JobState:
    if job.cancel_requested:
        return end(connection, job, JobState.CANCELLED, failures.cancelled(), now)
    if job.failures + 1 >= job.max_attempts:
        return end(connection, job, JobState.FAILED, result, now)
    return move(
        connection,
        job,
        JobState.QUEUED,
        failures=job.failures + 1,
        reason=f"attempt {job.attempt}: {result.error}",
        available_at=available_at,
    )


def _lost(now: float) -> Any:
    return (JOBS.c.state == JobState.RUNNING) & (JOBS.c.lease_until < now)


def _overdue(now: float) -> Any:
    return (JOBS.c.state == JobState.QUEUED) & JOBS.c.started_at.is_(None) & (JOBS.c.start_by <= now)


def has_expired(connection: Connection, now: float) -> bool:
    """Whether `expire` would do something, without its transaction."""
    return connection.scalar(select(JOBS.c.number).where(_lost(now) | _overdue(now)).limit(1)) is not None


@dataclass(frozen=True, slots=True)
class Expired:
    """`lost` by their runners; of those and of others that did not start in time, `ended` as failed."""

    lost: int = 0
    ended: int = 0


def expire(connection: Connection, now: float) -> Expired:
    """Take jobs from runners that died, and end those that did not start in time."""
    lost = connection.execute(select(JOBS).where(_lost(now)).with_for_update(skip_locked=True)).all()
    states = [_fail(connection, job, failures.runner_lost(), now, available_at=now) for job in lost]
    for job in connection.execute(select(JOBS).where(_overdue(now)).with_for_update(skip_locked=True)).all():
        states.append(end(connection, job, JobState.FAILED, failures.not_started(), now))
    return Expired(len(lost), states.count(JobState.FAILED))
