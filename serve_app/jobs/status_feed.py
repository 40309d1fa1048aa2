"""Follows the status of many jobs with one query for all of them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace

from serve_app.errors import StorageFailed, UnknownJob
from serve_app.jobs.job import JobStatus

POLL_SECONDS = 0.25

Read = Callable[[Mapping[str, int | None]], Awaitable[Mapping[str, JobStatus]]]
"""As `JobQueue.statuses`: by job, the number above which log entries are read; None reads no log."""


class StatusFeed:
    """Asks every quarter of a second while a job is followed. A thousand followers cost no more queries than one."""

    def __init__(self, read: Read, poll_seconds: float = POLL_SECONDS) -> None:
        self._read = read
        self._poll_seconds = poll_seconds
        self._followers: set[_Follower] = set()
        self._polling: asyncio.Task[None] | None = None

    async def follow(self, status: JobStatus, logs_after: int | None) -> AsyncGenerator[JobStatus, None]:
        """Yield `status`, then what each poll finds, changed or not, until the job has ended.

        Each log entry comes once. Raises UnknownJob once the job is deleted, and StorageFailed.
        """
        follower = _Follower(status.job.id, logs_after)
        self._followers.add(follower)
        try:
            follower.note(status)
            yield status
            while not status.job.state.is_final:
                if self._polling is None or self._polling.done():
                    self._polling = asyncio.create_task(self._poll())
                status = await follower.next()
                yield status
        finally:
            self._followers.discard(follower)

    async def _poll(self) -> None:
        while self._followers:
            await asyncio.sleep(self._poll_seconds)
            waiting = [follower for follower in self._followers if follower.is_waiting]
            if not waiting:
                continue
            try:
                statuses = await self._read(_wanted(waiting))
            except StorageFailed as error:
                for follower in waiting:
                    follower.fail(error)
                continue
            for follower in waiting:
                follower.give(statuses.get(follower.job_id))


class _Follower:
    def __init__(self, job_id: str, logs_after: int | None) -> None:
        self.job_id = job_id
        self.logs_after = logs_after
        self._next: asyncio.Future[JobStatus] | None = None

    @property
    def is_waiting(self) -> bool:
        return self._next is not None and not self._next.done()

    async def next(self) -> JobStatus:
        self._next = asyncio.get_running_loop().create_future()
        return await self._next

    def note(self, status: JobStatus) -> None:
        if status.logs:
            self.logs_after = status.logs[-1].number

    def give(self, status: JobStatus | None) -> None:
        if self._next is None or self._next.done():
            return
        if status is None:
            self._next.set_exception(UnknownJob(self.job_id))
            return
        after = self.logs_after
        own = replace(status, logs=() if after is None else tuple(e for e in status.logs if e.number > after))
        self.note(own)
        self._next.set_result(own)

    def fail(self, error: Exception) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_exception(error)


def _wanted(followers: list[_Follower]) -> dict[str, int | None]:
    """By job, the lowest number that one of its followers still has to see."""
    wanted: dict[str, int | None] = {}
    for follower in followers:
        known = wanted.get(follower.job_id)
        after = follower.logs_after
        wanted[follower.job_id] = known if after is None else after if known is None else min(known, after)
    return wanted
