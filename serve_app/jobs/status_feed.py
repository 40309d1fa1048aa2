"""Follows the status of many jobs with one query for all of them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace

from serve_app.errors import StorageFailed, UnknownJob
from serve_app.jobs.job import JobStatus
from serve_app.turns import working_for

_POLL_SECONDS = 0.25
_QUIET_SECONDS = 1.0
"""So often a follower hears that nothing has changed."""

Read = Callable[[Mapping[str, int | None]], Awaitable[Mapping[str, JobStatus]]]
"""As `JobQueue.statuses`: by job, the number above which log entries are read; None reads no log."""


class StatusFeed:
    """Asks every quarter of a second while a job is followed. A thousand followers cost no more queries than one, and
    only those wake whose job has changed."""

    def __init__(self, read: Read, poll_seconds: float = _POLL_SECONDS) -> None:
        self._read = read
        self._poll_seconds = poll_seconds
        self._followers: set[_Follower] = set()
        self._polling: asyncio.Task[None] | None = None

    async def follow(self, status: JobStatus, logs_after: int | None) -> AsyncGenerator[JobStatus | None, None]:
        """Yield `status`, then each change until the job has ended, and None every second in which there is none.

        Each log entry comes once. Raises UnknownJob once the job is deleted, and StorageFailed.
        """
        follower = _Follower(status, logs_after)
        self._followers.add(follower)
        try:
            yield status
            while not follower.last.job.state.is_final:
                if self._polling is None or self._polling.done():
                    with working_for(""):  # no follower's key pays for all
                        self._polling = asyncio.create_task(self._poll())
                yield await follower.next()
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
    def __init__(self, status: JobStatus, logs_after: int | None) -> None:
        self.job_id = status.job.id
        self.logs_after = logs_after
        self._next: asyncio.Future[JobStatus | None] | None = None
        self._note(status)

    @property
    def is_waiting(self) -> bool:
        return self._next is not None and not self._next.done()

    async def next(self) -> JobStatus | None:
        self._next = asyncio.get_running_loop().create_future()
        return await self._next

    def give(self, status: JobStatus | None) -> None:
        """What a poll has found."""
        if self._next is None or self._next.done():
            return
        if status is None:
            self._next.set_exception(UnknownJob(self.job_id))
            return
        after = self.logs_after
        logs = () if after is None else tuple(entry for entry in status.logs if entry.number > after)
        if logs or (status.job.state, status.position) != (self.last.job.state, self.last.position):
            own = replace(status, logs=logs)
            self._note(own)
            self._next.set_result(own)
        elif time.monotonic() - self._heard_at >= _QUIET_SECONDS:
            self._heard_at = time.monotonic()
            self._next.set_result(None)

    def fail(self, error: Exception) -> None:
        if self._next is not None and not self._next.done():
            self._next.set_exception(error)

    def _note(self, status: JobStatus) -> None:
        self.last = status
        self._heard_at = time.monotonic()
        if status.logs:
            self.logs_after = status.logs[-1].number


def _wanted(followers: list[_Follower]) -> dict[str, int | None]:
    """By job, the lowest number that one of its followers still has to see."""
    wanted: dict[str, int | None] = {}
    for follower in followers:
        known = wanted.get(follower.job_id)
        after = follower.logs_after
        wanted[follower.job_id] = known if after is None else after if known is None else min(known, after)
    return wanted
