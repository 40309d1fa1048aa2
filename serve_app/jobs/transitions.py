"""All changes of a job's state: leasing, returning, ending and cancelling.

A runner names the attempt it speaks for. Its call changes nothing once that attempt is not the current one.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from serve_app.errors import Cancelled, CsmServeError, RunnerLost, StartTimeout, UnknownJob
from serve_app.jobs import webhooks
from serve_app.jobs.job import TRANSITIONS, Backlog, CancelAnswer, JobResult, JobState, LeasedJob, LogLine, run_id
from serve_app.jobs.shares import note_leased
from serve_app.jobs.status import IN_TURN, append_log
from serve_app.jobs.tables import INPUTS, JOB_FILES, JOBS, RESULTS, UNSTORED
from serve_app.jobs.webhooks import WebhookFormat
from serve_app.settings import JobSettings
from serve_app.store.database import Clock, Database, reads, time_of, writes
from serve_app.store.tables import FILES

RELEASED_SECONDS = 60.0
"""How long a file that was stored for a job outlives it."""


@dataclass(frozen=True, slots=True)
class Expired:
    """`lost`: jobs whose runner died. `ended`: jobs that failed for that, or for not starting in time."""

    lost: int = 0
    ended: int = 0


class JobLeases:
    """The runners' side of the queue. Each call is one transaction, and any process may make it."""

    def __init__(
        self,
        database: Database,
        settings: JobSettings,
        webhook_format: WebhookFormat,
        clock: Clock | None = None,
        application: str = "",
    ) -> None:
        """application: whose jobs are leased, and those that are for any."""
        self._ours = JOBS.c.application.in_({"", application})
        self._database = database
        self._settings = settings
        self._webhook_format = webhook_format
        self._now = time_of(clock)
        self._lookout = database.lookout()

    def has_news(self) -> bool:
        """Whether `lease` may find more than at the last call of this. It costs next to nothing."""
        return self._lookout.has_news()

    async def lease(self, owner: str, excluded_keys: Collection[str] = ()) -> LeasedJob | None:
        """Lease the next job: `normal` before `low`, then by turn (`shares`). None if there is none to run.

        Jobs of `excluded_keys` are passed over.
        """
        # Those who find nothing open no transaction.
        may_start, is_queued = await self._look(excluded_keys)
        if not is_queued:
            self._lookout.nothing_waits()
        return await self._take(owner, excluded_keys) if may_start else None

    @reads
    def _look(self, connection: Connection, excluded_keys: Collection[str]) -> tuple[bool, bool]:
        """Whether a job may start now, and whether any is queued."""
        ready = select(JOBS.c.number).where(*self._next(self._now(connection), excluded_keys))
        if connection.scalar(ready.limit(1)) is not None:
            return True, True
        queued = select(JOBS.c.number).where(self._ours, JOBS.c.state == JobState.QUEUED)
        return False, connection.scalar(queued.limit(1)) is not None

    def _next(self, now: float, excluded_keys: Collection[str]) -> tuple[ColumnElement[bool], ...]:
        return self._ours, _may_start(now), JOBS.c.key_id.not_in(excluded_keys)

    @writes
    def _take(self, connection: Connection, owner: str, excluded_keys: Collection[str]) -> LeasedJob | None:
        now = self._now(connection)
        job = connection.execute(
            select(JOBS)
            .where(*self._next(now, excluded_keys))
            .order_by(*IN_TURN)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if job is None:
            return None
        note_leased(connection, job.application, job.turn)
        stored = connection.execute(select(INPUTS).where(INPUTS.c.number == job.number)).one()
        _move(
            connection,
            job,
            JobState.RUNNING,
            attempt=job.attempt + 1,
            started_at=job.started_at or now,
            owner=owner,
            lease_until=now + self._settings.lease_seconds,
        )
        return LeasedJob(
            id=job.id,
            attempt=job.attempt + 1,
            owner=owner,
            endpoint=job.endpoint,
            key_id=job.key_id,
            input=json.loads(stored.input),
            headers=json.loads(stored.headers),
            created_at=job.created_at,
            failures=job.failures,
            started_before=job.started_at,
        )

    @writes
    def heartbeat(self, connection: Connection, held: Iterable[LeasedJob]) -> set[str]:
        """Renew these leases. Returns the `run_id`s of lost or cancelled ones: stop their work and give them back."""
        to_stop = set()
        for leased in held:
            renewed = connection.execute(
                update(JOBS)
                .where(_current(leased))
                .values(lease_until=self._now(connection) + self._settings.lease_seconds)
                .returning(JOBS.c.cancel_requested)
            ).first()
            if renewed is None or renewed.cancel_requested:
                to_stop.add(leased.run_id)
        return to_stop

    @reads
    def cancel_requests(self, connection: Connection, owner: str) -> set[str]:
        """The `run_id`s of the owner's jobs that were cancelled: stop their work and give them back."""
        cancelled = select(JOBS.c.id, JOBS.c.attempt).where(
            JOBS.c.state == JobState.RUNNING, JOBS.c.owner == owner, JOBS.c.cancel_requested
        )
        return {run_id(*row) for row in connection.execute(cancelled)}

    @writes
    def log(self, connection: Connection, leased: LeasedJob, lines: Sequence[LogLine]) -> None:
        """Append to the job's log, up to `jobs.max_log_lines` in all."""
        if (job := _locked(connection, leased)) is not None:
            append_log(connection, job.number, lines, self._settings.max_log_lines)

    @writes
    def finish(self, connection: Connection, leased: LeasedJob, result: JobResult) -> JobState | None:
        """Record the end of the job, and its webhook with it.

        This and the next three return the job's new state. They return None and do nothing if the attempt was lost.
        """
        job = _locked(connection, leased)
        if job is None:
            return None
        return self._end(connection, job, JobState.COMPLETED if result.is_success else JobState.FAILED, result)

    @writes
    def retry(self, connection: Connection, leased: LeasedJob, error: CsmServeError) -> JobState | None:
        """Record a failed attempt. Another follows after a pause; after the last one the job fails with `error`."""
        pause_seconds = self._settings.retry_seconds * 2.0**leased.failures
        job = _locked(connection, leased)
        return None if job is None else self._fail(connection, job, error, self._now(connection) + pause_seconds)

    @writes
    def refuse(self, connection: Connection, leased: LeasedJob, reason: str, pause_seconds: float) -> JobState | None:
        """Return a job that found no free slot. It keeps its place, and counts neither as started nor as failed."""
        values = {"available_at": self._now(connection) + pause_seconds, "started_at": leased.started_before}
        return self._put_back(connection, leased, reason=reason, **values)

    @writes
    def give_back(self, connection: Connection, leased: LeasedJob, reason: str) -> JobState | None:
        """Return a job because its runner stops. Another runner may lease it at once; a cancelled job ends."""
        return self._put_back(connection, leased, reason=reason)

    async def expire(self) -> Expired:
        """Take jobs from runners that died, and fail jobs that did not start in time."""
        return await self._expire() if await self._has_expired() else Expired()

    @reads
    def _has_expired(self, connection: Connection) -> bool:
        expired = _lost(self._now(connection)) | _overdue(self._now(connection))
        return connection.scalar(select(JOBS.c.number).where(expired).limit(1)) is not None

    @writes
    def _expire(self, connection: Connection) -> Expired:
        now = self._now(connection)
        lost = connection.execute(select(JOBS).where(_lost(now)).with_for_update(skip_locked=True)).all()
        error = RunnerLost("the process that ran the request died; send it again")
        states = [self._fail(connection, job, error, available_at=now) for job in lost]
        late = JobResult.failed(StartTimeout("the request did not start in time; send it again"))
        for job in connection.execute(select(JOBS).where(_overdue(now)).with_for_update(skip_locked=True)).all():
            states.append(self._end(connection, job, JobState.FAILED, late))
        return Expired(len(lost), states.count(JobState.FAILED))

    @reads
    def backlog(self, connection: Connection) -> Backlog:
        unfinished = (JobState.QUEUED, JobState.RUNNING)
        columns = (JOBS.c.state, func.count(), func.min(JOBS.c.created_at))
        query = select(*columns).where(self._ours, JOBS.c.state.in_(unfinished)).group_by(JOBS.c.state)
        found = {state: (count, oldest) for state, count, oldest in connection.execute(query)}
        now = self._now(connection)
        queued, since = found.get(JobState.QUEUED, (0, now))
        return Backlog(queued, found.get(JobState.RUNNING, (0, now))[0], max(0.0, now - since))

    def _end(self, connection: Connection, job: Row[Any], state: JobState, result: JobResult) -> JobState:
        now, is_kept = self._now(connection), state is JobState.FAILED and self._settings.retryable_seconds > 0
        return end(connection, job, state, result, self._webhook_format, now, keeps_input=is_kept)

    def _fail(self, connection: Connection, job: Row[Any], error: CsmServeError, available_at: float) -> JobState:
        if job.cancel_requested:
            return self._end(connection, job, JobState.CANCELLED, cancelled())
        if job.failures + 1 >= job.max_attempts:
            return self._end(connection, job, JobState.FAILED, JobResult.failed(error))
        reason = f"attempt {job.attempt}: {error}"
        values = {"failures": job.failures + 1, "reason": reason, "available_at": available_at}
        return _move(connection, job, JobState.QUEUED, **values)

    def _put_back(self, connection: Connection, leased: LeasedJob, **values: Any) -> JobState | None:
        job = _locked(connection, leased)
        if job is None:
            return None
        if job.cancel_requested:
            return self._end(connection, job, JobState.CANCELLED, cancelled())
        return _move(connection, job, JobState.QUEUED, **values)


def cancel(connection: Connection, job_id: str, key_id: str, webhook_format: WebhookFormat, now: float) -> CancelAnswer:
    """End a queued job, or ask the runner of a running one to stop it. Raises UnknownJob."""
    job = connection.execute(select(JOBS).where(JOBS.c.id == job_id, JOBS.c.key_id == key_id).with_for_update()).first()
    if job is None:
        raise UnknownJob(job_id)
    match JobState(job.state):
        case JobState.QUEUED:
            end(connection, job, JobState.CANCELLED, cancelled(), webhook_format, now)
            return CancelAnswer.CANCELLED
        case JobState.RUNNING:
            connection.execute(update(JOBS).where(JOBS.c.number == job.number).values(cancel_requested=True))
            return CancelAnswer.REQUESTED
        case _:
            return CancelAnswer.ALREADY_COMPLETED


def cancelled() -> JobResult:
    return JobResult.failed(Cancelled("the request was cancelled"))


def end(
    connection: Connection,
    job: Row[Any],
    state: JobState,
    result: JobResult,
    webhook_format: WebhookFormat,
    now: float,
    keeps_input: bool = False,
) -> JobState:
    """Record the state, the result and the webhook of a job that this transaction has locked.

    keeps_input: for a retry, unless the caller wants nothing stored. `JobQueue.sweep` deletes it later.
    The result's primary key is the job, so a second result cannot be written.
    """
    error = result.error
    _move(
        connection,
        job,
        state,
        ended_at=now,
        error_type=error and error.kind,
        error=error and json.dumps(error.args),
        inference_seconds=result.inference_seconds,
    )
    connection.execute(
        insert(RESULTS).values(
            number=job.number, attempt=job.attempt, file_id=result.file_id, body=json.dumps(result.output)
        )
    )
    unstored = select(UNSTORED.c.number).where(UNSTORED.c.number == job.number)
    if not keeps_input or connection.scalar(unstored) is not None:
        forget_input(connection, job.number, now)
    if job.webhook_url is not None:
        body = webhook_format.body(job.id, result)
        webhooks.put(connection, job.id, job.key_id, job.webhook_url, body, now)
    return state


def forget_input(connection: Connection, number: int, now: float) -> None:
    """The job does not run again. Files that were stored for it alone go soon, unless another job has the same ones.

    Not at once: a submit that is just coming in may have found them here, and keeps them once it is stored.
    """
    connection.execute(delete(INPUTS).where(INPUTS.c.number == number))
    ours = select(JOB_FILES.c.file_id).where(JOB_FILES.c.number == number)
    others = select(JOB_FILES.c.file_id).where(JOB_FILES.c.number != number)
    released = list(connection.scalars(ours.where(JOB_FILES.c.file_id.not_in(others))))
    connection.execute(delete(JOB_FILES).where(JOB_FILES.c.number == number))
    if released:
        gone_at = now + RELEASED_SECONDS
        later = (FILES.c.expires_at.is_(None)) | (FILES.c.expires_at > gone_at)
        connection.execute(update(FILES).where(FILES.c.id.in_(released), later).values(expires_at=gone_at))


def _move(connection: Connection, job: Row[Any], target: JobState, **values: Any) -> JobState:
    """Change the state of a job that this transaction has locked. Every change of state goes through here."""
    assert target in TRANSITIONS[JobState(job.state)], f"no job goes from {job.state} to {target}"
    unowned = {"owner": None, "lease_until": None}
    connection.execute(update(JOBS).where(JOBS.c.number == job.number).values(state=target, **unowned | values))
    return target


def _locked(connection: Connection, leased: LeasedJob) -> Row[Any] | None:
    return connection.execute(select(JOBS).where(_current(leased)).with_for_update()).first()


def _current(leased: LeasedJob) -> Any:
    return (JOBS.c.id == leased.id) & (JOBS.c.state == JobState.RUNNING) & (JOBS.c.attempt == leased.attempt)


def _may_start(now: float) -> Any:
    """A job that has started before has no start limit any more."""
    in_time = JOBS.c.started_at.is_not(None) | (JOBS.c.start_by > now)
    return (JOBS.c.state == JobState.QUEUED) & (JOBS.c.available_at <= now) & in_time


def _lost(now: float) -> Any:
    return (JOBS.c.state == JobState.RUNNING) & (JOBS.c.lease_until < now)


def _overdue(now: float) -> Any:
    return (JOBS.c.state == JobState.QUEUED) & JOBS.c.started_at.is_(None) & (JOBS.c.start_by <= now)
