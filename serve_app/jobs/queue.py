"""The queue of jobs, in the database: what callers, runners and sweepers do to it, each in one transaction."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from sqlalchemy.exc import IntegrityError

from serve_app.errors import UnknownJob
from serve_app.jobs import leases, logs, status, submission, sweeping
from serve_app.jobs.cancelling import cancel
from serve_app.jobs.job import Backlog, CancelAnswer, Job, JobResult, JobState, JobStatus, LeasedJob, LogLine, NewJob
from serve_app.jobs.leases import Expired
from serve_app.jobs.submission import Submission
from serve_app.settings import JobSettings
from serve_app.store.database import Database

_ANSWER_POLL_SECONDS = 0.05


class Files(Protocol):
    """Where the files of jobs are."""

    async def delete(self, file_id: str) -> None:
        """Also one that is gone already."""
        ...


class JobQueue:
    """Every method may be called from any process; a job is one row, and whoever changes it holds its lock."""

    def __init__(self, database: Database, settings: JobSettings, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def submit(self, new: NewJob) -> Job:
        """A new job, or the one that this request asked for before: by its idempotency key, or sent again unanswered.

        Call `answered` once the answer is on its way. Raises InvalidRequest for an idempotency key of another request,
        Overloaded where `jobs.max_queued` wait already.
        """
        came_at = self._clock()
        while (job_id := await self._try_submit(new, came_at)) is None:
            await asyncio.sleep(_ANSWER_POLL_SECONDS)
        return await self.get(job_id, new.key_id)

    async def _try_submit(self, new: NewJob, came_at: float) -> str | None:
        asked = Submission(new, came_at, self._clock())
        try:
            return await self._database.write(lambda c: submission.submit(c, asked, self._settings))
        except IntegrityError:
            # The same idempotency key at the same moment: the other one was first, and is found now.
            return await self._database.write(lambda c: submission.submit(c, asked, self._settings))

    async def answered(self, job_id: str) -> None:
        """The answer to `submit` was sent. An equal submit from now on means a job of its own."""
        await self._database.write(lambda c: submission.answered(c, job_id))

    async def get(self, job_id: str, key_id: str) -> Job:
        """Raises UnknownJob, also for another key's."""
        return await self._database.read(lambda c: status.job(c, job_id, key_id))

    async def status(self, job_id: str, key_id: str, logs_after: int | None = None) -> JobStatus:
        """Its place in the queue, and its log from after that entry's number; None reads no log. Raises UnknownJob."""
        return await self._database.read(lambda c: status.status(c, job_id, key_id, logs_after))

    async def result(self, job_id: str, key_id: str) -> JobResult | None:
        """None while it is not over. Raises UnknownJob."""
        return await self._database.read(lambda c: status.result(c, job_id, key_id))

    async def cancel(self, job_id: str, key_id: str) -> CancelAnswer:
        """Raises UnknownJob."""
        answer = await self._database.write(lambda c: cancel(c, job_id, key_id, self._clock()))
        if answer is None:
            raise UnknownJob(job_id)
        return answer

    async def lease(self, owner: str, but_of: Collection[str] = ()) -> LeasedJob | None:
        """Take the job whose turn it is: `normal` before `low`, within one the earliest; None if nothing waits.

        Jobs of the keys `but_of` are passed over.
        """
        if not await self._database.read(lambda c: leases.is_waiting(c, self._clock(), but_of)):
            return None
        return await self._database.write(lambda c: leases.take(c, owner, self._clock(), self._settings, but_of))

    async def heartbeat(self, held: Iterable[LeasedJob]) -> set[str]:
        """Renew these leases; returns the `run_id`s of those lost or cancelled: stop their work and give them back."""
        return await self._database.write(lambda c: leases.hold(c, held, self._clock(), self._settings))

    async def cancel_requests(self, owner: str) -> set[str]:
        """The `run_id`s of those that `owner` holds and their callers cancelled: stop their work and give them back."""
        return await self._database.read(lambda c: leases.cancel_requests(c, owner))

    async def log(self, leased: LeasedJob, lines: Sequence[LogLine]) -> None:
        await self._database.write(lambda c: logs.write(c, leased, lines, self._settings.max_log_lines))

    async def finish(self, leased: LeasedJob, result: JobResult) -> JobState | None:
        """Record how it ended, and its webhook with it.

        This and the next three return the job's state now; None, and nothing is done, if the attempt had been lost.
        """
        return await self._database.write(lambda c: leases.finish(c, leased, result, self._clock()))

    async def retry(self, leased: LeasedJob, result: JobResult) -> JobState | None:
        """The attempt failed with `result`: another follows after a pause, or, after the last, that is the end."""
        pause = self._settings.retry_seconds * 2.0**leased.failures
        return await self._database.write(
            lambda c: leases.retry(c, leased, result, self._clock(), self._clock() + pause)
        )

    async def refuse(self, leased: LeasedJob, reason: str, pause_seconds: float) -> JobState | None:
        """There was no room to run it: it waits on, in its old place. It counts neither as started nor as failed."""
        return await self._database.write(
            lambda c: leases.refuse(c, leased, reason, self._clock(), self._clock() + pause_seconds)
        )

    async def give_back(self, leased: LeasedJob, reason: str) -> JobState | None:
        """The runner stops: another may have it at once, none the worse. If it was cancelled, it is over."""
        return await self._database.write(lambda c: leases.give_back(c, leased, reason, self._clock()))

    async def expire(self) -> Expired:
        """Take jobs from runners that died, and end those that did not start in time."""
        if not await self._database.read(lambda c: leases.has_expired(c, self._clock())):
            return Expired()
        return await self._database.write(lambda c: leases.expire(c, self._clock()))

    async def backlog(self) -> Backlog:
        return await self._database.read(status.backlog)

    async def sweep(self, files: Files) -> int:
        """Forget jobs that ended `jobs.kept_seconds` ago, and delete their files first; returns how many.

        Those whose callers want nothing kept go after an hour.
        """
        now = self._clock()
        ended_before = now - self._settings.kept_seconds
        num_swept = 0
        while swept := await self._database.read(
            lambda c: sweeping.old_jobs(c, ended_before) or sweeping.old_unstored_jobs(c, now)
        ):
            for job in swept:
                if job.file_id is not None:
                    await files.delete(job.file_id)
            await self._database.write(lambda c, swept=swept: sweeping.forget(c, swept))
            num_swept += len(swept)
        return num_swept
