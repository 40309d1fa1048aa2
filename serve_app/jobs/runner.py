"""Runs the jobs of a queue: takes as many as there is room for, holds their leases, and records how each ended."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

from serve_app import metrics
from serve_app.errors import CsmServeError, GenerationFailed, LimitReached, NotReady, Overloaded, StorageFailed
from serve_app.jobs import failures
from serve_app.jobs.job import JobResult, JobState, LeasedJob, LogLevel, LogLine
from serve_app.jobs.periodic import PAUSE_SECONDS, repeat
from serve_app.jobs.queue import JobQueue
from serve_app.metrics import NO_METER, Meter
from serve_app.settings import JobSettings

_log = logging.getLogger(__name__)

_MAY_PASS = (GenerationFailed, StorageFailed)
"""Another attempt may do better. All other errors raised on purpose would come again."""
_LONGEST_PAUSE_SECONDS = 10.0


class Progress:
    """What a job says of itself while it runs."""

    def __init__(self) -> None:
        self._lines: list[LogLine] = []

    def log(self, message: str, level: LogLevel = "INFO") -> None:
        """Seen by the job's caller within a second; never what a user said."""
        self._lines.append(LogLine(time.time(), level, message))

    def take(self) -> list[LogLine]:
        """Lines that were not taken before."""
        taken, self._lines = self._lines, []
        return taken


class Work(Protocol):
    """What is done for a job."""

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        """To be cancelled at any time, and then to leave nothing running. It may run again after a crash.

        Raises Overloaded or NotReady where there is no room for it now, GenerationFailed or StorageFailed where another
        attempt may help, another CsmServeError where none can.
        """
        ...

    def failure(self, error: CsmServeError) -> JobResult:
        """What the job's caller is told of it."""
        ...


@dataclass(slots=True)
class _Run:
    """A job in this runner's hands."""

    job: LeasedJob
    progress: Progress
    work: asyncio.Task[JobResult]
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its log is written: lines keep their order, and the last come before the end."""


class JobRunner:
    """`owner` is another one in each process, and after each restart."""

    def __init__(self, queue: JobQueue, work: Work, settings: JobSettings, owner: str, meter: Meter = NO_METER) -> None:
        self._queue = queue
        self._work = work
        self._settings = settings
        self._owner = owner
        self._meter = meter
        self._runs: dict[str, _Run] = {}
        self._attending: set[asyncio.Task[None]] = set()
        self._has_room = asyncio.Event()
        self._taking = asyncio.Lock()
        self._is_stopping = False
        self._paused_until = 0.0
        self._paused_keys: dict[str, float] = {}

    @property
    def num_running(self) -> int:
        return len(self._runs)

    async def run(self) -> None:
        """Until cancelled, which leaves its jobs to their leases; `stop` gives them back. Raises what is a bug."""
        loops = (
            repeat("taking jobs", self._take_one, self._settings.poll_seconds, self._has_room),
            repeat("holding jobs", self._beat, self._settings.heartbeat_seconds),
            repeat("tending jobs", self._tend, self._settings.poll_seconds),
        )
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(loop)

    async def stop(self) -> None:
        """Take no more jobs, stop those that run and give them back: another runner has them at once."""
        async with self._taking:
            self._is_stopping = True
        for run in self._runs.values():
            run.work.cancel()
        await asyncio.gather(*self._attending)

    async def _take_one(self) -> bool:
        async with self._taking:  # what is leased is also run, or given back
            if self._is_stopping or self.num_running >= self._settings.max_running or self._is_paused():
                return False
            job = await self._queue.lease(self._owner, self._keys_to_wait_for())
            if job is None:
                return False
            progress = Progress()
            run = _Run(job, progress, asyncio.create_task(self._do(job, progress)))
            self._runs[job.run_id] = run
            self._attend(run)
        if job.attempt == 1:
            self._meter.observe(metrics.JOB_QUEUE_SECONDS, max(0.0, time.time() - job.created_at))
        _log.info("job %s: attempt %d begins", job.id, job.attempt)
        return True

    async def _do(self, job: LeasedJob, progress: Progress) -> JobResult:
        async with asyncio.timeout(self._settings.max_run_seconds):
            return await self._work.run(job, progress)

    def _attend(self, run: _Run) -> None:
        task = asyncio.create_task(self._see_through(run))
        self._attending.add(task)
        task.add_done_callback(self._attended)

    def _attended(self, task: asyncio.Task[None]) -> None:
        self._attending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the end of a job was not recorded: it is run again once its lease is over", exc_info=error)

    async def _see_through(self, run: _Run) -> None:
        await asyncio.wait({run.work})
        try:
            self._note(run.job, await self._record_at_last(run))
        finally:
            del self._runs[run.job.run_id]
            self._has_room.set()

    async def _record_at_last(self, run: _Run) -> JobState | None:
        """However long the database is away: what was done once is not done again for that."""
        while True:
            try:
                return await self._record(run)
            except StorageFailed as error:
                _log.warning("job %s: its end cannot be recorded yet (%s)", run.job.id, type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _record(self, run: _Run) -> JobState | None:
        """The job's state now; None if this attempt had been lost."""
        await self._write_log(run)
        job = run.job
        if run.work.cancelled():
            return await self._queue.give_back(job, "its runner was stopped")
        error = run.work.exception()
        if error is None:
            return await self._queue.finish(job, run.work.result())
        if isinstance(error, Overloaded | NotReady):
            return await self._queue.refuse(job, str(error), self._pause(job, error))
        if not isinstance(error, CsmServeError):
            _log.error("job %s: attempt %d failed", job.id, job.attempt, exc_info=error)
            return await self._queue.retry(job, failures.unexpected())
        _log.warning("job %s: attempt %d ended: %s", job.id, job.attempt, type(error).__name__)
        result = self._work.failure(error)
        return await (self._queue.retry if isinstance(error, _MAY_PASS) else self._queue.finish)(job, result)

    def _pause(self, job: LeasedJob, error: Overloaded | NotReady) -> float:
        """A key at its limit keeps its own jobs waiting, a busy engine all of them."""
        seconds = error.retry_after_seconds if isinstance(error, Overloaded) else PAUSE_SECONDS
        seconds = min(seconds, _LONGEST_PAUSE_SECONDS)
        if isinstance(error, LimitReached):
            self._paused_keys[job.key_id] = time.monotonic() + seconds
        else:
            self._paused_until = time.monotonic() + seconds
        return seconds

    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _keys_to_wait_for(self) -> set[str]:
        now = time.monotonic()
        self._paused_keys = {key: until for key, until in self._paused_keys.items() if until > now}
        return set(self._paused_keys)

    def _note(self, job: LeasedJob, state: JobState | None) -> None:
        if state is None:
            _log.warning("job %s: attempt %d was lost before it ended", job.id, job.attempt)
        elif state.is_final:
            self._meter.count(metrics.JOBS_ENDED, outcome=state)
            self._meter.observe(metrics.JOB_SECONDS, max(0.0, time.time() - job.created_at))
            _log.info("job %s: %s", job.id, state)
        else:
            self._meter.count(metrics.JOBS_PUT_BACK)

    async def _beat(self) -> bool:
        if self._runs:
            self._stop_work(await self._queue.heartbeat([run.job for run in self._runs.values()]))
        expired = await self._queue.expire()
        self._meter.count(metrics.JOB_LEASES_LOST, expired.lost)
        self._meter.count(metrics.JOBS_ENDED, expired.ended, outcome=JobState.FAILED)
        backlog = await self._queue.backlog()
        self._meter.set(metrics.JOBS_QUEUED, backlog.queued)
        self._meter.set(metrics.JOBS_RUNNING, self.num_running)
        return False

    async def _tend(self) -> bool:
        if self._runs:
            self._stop_work(await self._queue.cancel_requests(self._owner))
            for run in list(self._runs.values()):
                await self._write_log(run)
        return False

    def _stop_work(self, run_ids: set[str]) -> None:
        for run_id in run_ids:
            if (run := self._runs.get(run_id)) is not None:
                run.work.cancel()

    async def _write_log(self, run: _Run) -> None:
        async with run.writing:
            if lines := run.progress.take():
                await self._queue.log(run.job, lines)
