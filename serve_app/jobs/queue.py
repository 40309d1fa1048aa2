"""The callers' side of the job queue: submit, ask for status and result, cancel. Old jobs are deleted here too."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import IntegrityError

from serve_app.jobs import transitions
from serve_app.jobs.job import CancelAnswer, Job, JobResult, JobState, JobStatus, NewJob
from serve_app.jobs.status import JOB, RESULT, STATUS, find, job_of, log_of, recent, result_of, statuses
from serve_app.jobs.submission import Submission, again, submit
from serve_app.jobs.tables import INPUTS, JOBS, RESULTS, UNSTORED, WEBHOOKS
from serve_app.jobs.webhooks import WebhookFormat, WebhookState
from serve_app.settings import JobSettings
from serve_app.store.database import Clock, Database, reads, time_of, writes

UNSTORED_SECONDS = 3600.0
"""How long the result of a job with `stores_io=False` can be fetched after its end."""

_ANSWER_POLL_SECONDS = 0.05
_SWEEP_BATCH = 100


class Files(Protocol):
    """The store that holds the files of jobs."""

    async def delete(self, file_id: str) -> None:
        """Delete a file. A file that does not exist is no error."""
        ...


class JobQueue:
    """Each call is one transaction, and any process may make it."""

    def __init__(
        self,
        database: Database,
        settings: JobSettings,
        webhook_format: WebhookFormat,
        clock: Clock | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._webhook_format = webhook_format
        self._now = time_of(clock)

    async def submit(self, new: NewJob) -> Job:
        """A new job, or the existing one if this submit repeats an earlier one.

        A submit repeats another one if it has the same idempotency key, or if it is equal and the earlier one was
        never answered. Call `answered` once the answer is on its way.

        Raises InvalidRequest if the idempotency key belongs to another request, Overloaded if `jobs.max_queued` jobs
        are waiting.
        """
        came_at = await self._database.read(self._now)
        while (job_id := await self._try_submit(new, came_at)) is None:
            await asyncio.sleep(_ANSWER_POLL_SECONDS)
        return await self.get(job_id, new.key_id)

    async def _try_submit(self, new: NewJob, came_at: float) -> str | None:
        submission = Submission(new, came_at, await self._database.read(self._now))
        try:
            return await self._submit(submission)
        except IntegrityError:
            # Another submit with the same idempotency key committed first; this time it is found.
            return await self._submit(submission)

    @writes
    def _submit(self, connection: Connection, submission: Submission) -> str | None:
        return submit(connection, submission, self._settings)

    @writes
    def answered(self, connection: Connection, job_id: str) -> None:
        """Record that the caller received the id: an equal submit is a new job from now on."""
        connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(unanswered_since=None))

    @reads
    def get(self, connection: Connection, job_id: str, key_id: str) -> Job:
        """Raises UnknownJob, also for a job of another key."""
        return job_of(find(connection, JOB, job_id, key_id))

    @reads
    def status(self, connection: Connection, job_id: str, key_id: str, logs_after: int | None = None) -> JobStatus:
        """Position and log entries with a number above `logs_after`; None reads no log. Raises UnknownJob."""
        row = find(connection, STATUS, job_id, key_id)
        logs = () if logs_after is None else log_of(connection, row.number, logs_after)
        return JobStatus(job_of(row), row.position, logs)

    @reads
    def recent(self, connection: Connection, key_id: str, limit: int) -> list[JobStatus]:
        """The latest `limit` jobs of a key, newest first, without logs."""
        return recent(connection, key_id, limit)

    @reads
    def statuses(self, connection: Connection, logs_after: Mapping[str, int | None]) -> dict[str, JobStatus]:
        """Of these jobs those that exist, whichever key they belong to; see `status`."""
        return statuses(connection, logs_after)

    @reads
    def result(self, connection: Connection, job_id: str, key_id: str) -> JobResult | None:
        """None while the job has not ended. Raises UnknownJob."""
        return result_of(find(connection, RESULT, job_id, key_id))

    @writes
    def cancel(self, connection: Connection, job_id: str, key_id: str) -> CancelAnswer:
        """End a queued job, or ask the runner of a running one to stop it. Raises UnknownJob."""
        return transitions.cancel(connection, job_id, key_id, self._webhook_format, self._now(connection))

    async def delete(self, job_id: str, key_id: str, files: Files) -> bool:
        """Delete a job that has ended: its result, its log, and the file that goes with it.

        Returns False and changes nothing while it has not ended. Raises UnknownJob.
        """
        ended = await self._ended(job_id, key_id)
        if ended is None:
            return False
        for file_id in filter(None, ended.values()):
            await files.delete(file_id)
        await self._forget(ended)
        return True

    @reads
    def _ended(self, connection: Connection, job_id: str, key_id: str) -> dict[int, str | None] | None:
        row = find(connection, RESULT, job_id, key_id)
        return {row.number: row.file_id} if job_of(row).state.is_final else None

    @reads
    def again(self, connection: Connection, job_id: str, key_id: str) -> NewJob:
        """A job to submit that does what a failed one was to do, with the usual limits and cost.

        Raises UnknownJob, and NotRetryable for one that has not failed or whose input is deleted.
        """
        return again(connection, find(connection, JOB, job_id, key_id))

    @writes
    def _forget_old_inputs(self, connection: Connection) -> None:
        """Those of jobs that failed `jobs.retryable_seconds` ago, at most a batch."""
        now = self._now(connection)
        old = (JOBS.c.state == JobState.FAILED) & (JOBS.c.ended_at < now - self._settings.retryable_seconds)
        query = select(JOBS.c.number).join_from(JOBS, INPUTS, INPUTS.c.number == JOBS.c.number).where(old)
        for number in connection.scalars(query.limit(_SWEEP_BATCH)).all():
            transitions.forget_input(connection, number, now)

    async def sweep(self, files: Files) -> int:
        """Delete jobs that ended `jobs.kept_seconds` ago, their files first. Returns how many.

        Jobs with `stores_io=False` go an hour after their end.
        """
        await self._forget_old_inputs()
        num_swept = 0
        while old := await self._old_jobs() or await self._old_unstored_jobs():
            for file_id in filter(None, old.values()):
                await files.delete(file_id)
            await self._forget(old)
            num_swept += len(old)
        return num_swept

    @reads
    def _old_jobs(self, connection: Connection) -> dict[int, str | None]:
        """Numbers and file ids of the oldest ones, at most a batch."""
        query = (
            select(JOBS.c.number, RESULTS.c.file_id)
            .outerjoin_from(JOBS, RESULTS, RESULTS.c.number == JOBS.c.number)
            .where(JOBS.c.ended_at < self._now(connection) - self._settings.kept_seconds)
            .order_by(JOBS.c.ended_at)
            .limit(_SWEEP_BATCH)
        )
        return {row.number: row.file_id for row in connection.execute(query)}

    @reads
    def _old_unstored_jobs(self, connection: Connection) -> dict[int, str | None]:
        """Those whose webhook is no longer pending, at most a batch. Their files keep their own lifetime."""
        pending = select(WEBHOOKS.c.id).where(WEBHOOKS.c.state == WebhookState.PENDING)
        query = (
            select(UNSTORED.c.number)
            .join_from(UNSTORED, JOBS, UNSTORED.c.number == JOBS.c.number)
            .where(JOBS.c.ended_at < self._now(connection) - UNSTORED_SECONDS, JOBS.c.id.not_in(pending))
            .limit(_SWEEP_BATCH)
        )
        return dict.fromkeys(connection.scalars(query))

    @writes
    def _forget(self, connection: Connection, numbers: Collection[int]) -> None:
        """Inputs, results and logs go with their job."""
        connection.execute(delete(JOBS).where(JOBS.c.number.in_(numbers)))
