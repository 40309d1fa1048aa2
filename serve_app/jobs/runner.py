"""Runs jobs: leases as many as there is room for, renews the leases, and records how each job ended."""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from serve_app import metrics
from serve_app.errors import (
    CsmServeError,
    GenerationFailed,
    InternalError,
    LimitReached,
    NotReady,
    Overloaded,
    StorageFailed,
)
from serve_app.jobs.job import JobResult, JobState, LeasedJob, LogLevel, LogLine
from serve_app.jobs.periodic import PAUSE_SECONDS, repeat
from serve_app.jobs.transitions import JobLeases
from serve_app.metrics import NO_METER, Meter
from serve_app.settings import JobSettings
from serve_app.shares import Shares
from serve_app.turns import working_for

_log = logging.getLogger(__name__)

_RETRYABLE = (GenerationFailed, StorageFailed)
"""Another attempt may succeed. All other errors that are raised on purpose would come again."""
_MAX_PAUSE_SECONDS = 10.0


class Progress:
    """Collects the log lines of a running job."""

    def __init__(self) -> None:
        self._lines: list[LogLine] = []

    def log(self, message: str, level: LogLevel = "INFO") -> None:
        """Add a line. The caller sees it within a second. It must not hold users' text."""
        self._lines.append(LogLine(time.time(), level, message))

    def take(self) -> list[LogLine]:
        """Lines since the last call."""
        taken, self._lines = self._lines, []
        return taken


class Work(Protocol):
    """The work that a job stands for."""

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        """Do the work and return its result. A crash may cause a second run.

        It may be cancelled at any time, and then leaves nothing running. Raises Overloaded or NotReady if there is no
        room now, GenerationFailed or StorageFailed if another attempt may help, another CsmServeError if none can.
        """
        ...


@dataclass(slots=True)
class _Run:
    """A job that this runner holds."""

    job: LeasedJob
    progress: Progress
    work: asyncio.Task[JobResult]
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the log is written, so that lines keep their order and the last ones precede the end."""


class JobRunner:
    """Runs up to `jobs.max_running` jobs. `owner` must be unique for each process and each start."""

    def __init__(
        self, leases: JobLeases, work: Work, settings: JobSettings, owner: str, meter: Meter = NO_METER
    ) -> None:
        self._leases = leases
        self._work = work
        self._settings = settings
        self._owner = owner
        self._meter = meter
        self._runs: dict[str, _Run] = {}
        self._attending: set[asyncio.Task[None]] = set()
        self._has_room = asyncio.Event()
        self._has_runs = asyncio.Event()
        self._taking = asyncio.Lock()
        self._is_stopping = False
        self._paused_until = 0.0
        self._paused_keys: dict[str, float] = {}
        self._shares = Shares()

    @property
    def num_running(self) -> int:
        return len(self._runs)

    async def run(self) -> None:
        """Run until cancelled. `stop` returns the jobs to the queue; without it they wait until their leases end.

        Raises an ExceptionGroup if a loop fails with an unexpected error.
        """
        loops = (
            repeat("taking jobs", self._take_one, self._settings.poll_seconds, self._has_room),
            repeat("renewing leases", self._beat, self._settings.heartbeat_seconds),
            repeat("watching jobs", self._watch, self._settings.poll_seconds),
        )
        async with asyncio.TaskGroup() as group:
            for loop in loops:
                group.create_task(loop)

    async def stop(self, drain_seconds: float = 0.0) -> None:
        """Lease no more jobs, and let the running ones end. What still runs after `drain_seconds` is stopped and
        returns to the queue at once. `run` must go on meanwhile, since it renews the leases.
        """
        async with self._taking:
            self._is_stopping = True
        if self._attending and drain_seconds:
            _log.info("waiting for %d jobs, for %.0f s at most", len(self._attending), drain_seconds)
            await asyncio.wait(self._attending, timeout=drain_seconds)
        for run in self._runs.values():
            run.work.cancel()
        await asyncio.gather(*self._attending)

    async def _take_one(self) -> bool:
        async with self._taking:  # `stop` waits for it, so that no leased job is left behind
            if self._is_stopping or self.num_running >= self._settings.max_running or self._is_paused():
                return False
            if not self._leases.has_news():  # five times a second
                return False
            job = await self._leases.lease(self._owner, self._excluded_keys())
            if job is None:
                return False
            self._shares.came(job.key_id)
            progress = Progress()
            run = _Run(job, progress, asyncio.create_task(self._do(job, progress)))
            self._runs[job.run_id] = run
            self._has_runs.set()
            self._attend(run)
        if job.attempt == 1:
            self._meter.observe(metrics.JOB_QUEUE_SECONDS, max(0.0, time.time() - job.created_at))
        _log.info("job %s: attempt %d begins", job.id, job.attempt)
        return True

    async def _do(self, job: LeasedJob, progress: Progress) -> JobResult:
        with working_for(job.key_id):
            async with asyncio.timeout(self._settings.max_run_seconds):
                return await self._work.run(job, progress)

    def _attend(self, run: _Run) -> None:
        task = asyncio.create_task(self._see_through(run))
        self._attending.add(task)
        task.add_done_callback(self._attended)

    def _attended(self, task: asyncio.Task[None]) -> None:
        self._attending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the end of a job was not recorded: it runs again once its lease ends", exc_info=error)

    async def _see_through(self, run: _Run) -> None:
        await asyncio.wait({run.work})
        try:
            self._note(run.job, await self._record_until_stored(run))
        finally:
            del self._runs[run.job.run_id]
            self._has_room.set()

    async def _record_until_stored(self, run: _Run) -> JobState | None:
        """Keep trying while the database is away, so that finished work is not repeated."""
        while True:
            try:
                return await self._record(run)
            except StorageFailed as error:
                _log.warning("job %s: its end cannot be recorded yet (%s)", run.job.id, type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _record(self, run: _Run) -> JobState | None:
        """The job's new state. None if this attempt was lost."""
        await self._write_log(run)
        job = run.job
        if run.work.cancelled():
            return await self._leases.give_back(job, "its runner was stopped")
        error = run.work.exception()
        if error is None:
            return await self._leases.finish(job, run.work.result())
        if isinstance(error, Overloaded | NotReady):
            return await self._leases.refuse(job, str(error), self._pause(job, error))
        if not isinstance(error, CsmServeError):
            _log.error("job %s: attempt %d failed", job.id, job.attempt, exc_info=error)
            return await self._leases.retry(job, InternalError("the server failed; its log has the reason"))
        _log.warning("job %s: attempt %d ended: %s", job.id, job.attempt, type(error).__name__)
        if isinstance(error, _RETRYABLE):
            return await self._leases.retry(job, error)
        return await self._leases.finish(job, JobResult.failed(error))

    def _pause(self, job: LeasedJob, error: Overloaded | NotReady) -> float:
        """Pause the key that is at its limit, or the whole runner if the engine is busy. Returns the seconds."""
        seconds = error.retry_after_seconds if isinstance(error, Overloaded) else PAUSE_SECONDS
        seconds = min(seconds, _MAX_PAUSE_SECONDS)
        if isinstance(error, LimitReached):
            self._paused_keys[job.key_id] = time.monotonic() + seconds
        else:
            self._paused_until = time.monotonic() + seconds
        return seconds

    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _excluded_keys(self) -> set[str]:
        now = time.monotonic()
        self._paused_keys = {key: until for key, until in self._paused_keys.items() if until > now}
        return {*self._paused_keys, *self._keys_at_their_share()}

    def _keys_at_their_share(self) -> set[str]:
        """Keys that leave the other places of this runner to those whose jobs came lately."""
        running = Counter(run.job.key_id for run in self._runs.values())
        most = self._settings.max_running
        return {key for key, number in running.items() if number >= self._shares.most_places(key, most)}

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
            self._stop_work(await self._leases.heartbeat([run.job for run in self._runs.values()]))
        expired = await self._leases.expire()
        self._meter.count(metrics.JOB_LEASES_LOST, expired.lost)
        self._meter.count(metrics.JOBS_ENDED, expired.ended, outcome=JobState.FAILED)
        backlog = await self._leases.backlog()
        self._meter.set(metrics.JOBS_QUEUED, backlog.queued)
        self._meter.set(metrics.JOBS_OLDEST_WAIT, backlog.oldest_wait_seconds)
        self._meter.set(metrics.JOBS_RUNNING, self.num_running)
        return False

    async def _watch(self) -> bool:
        if not self._runs:
            self._has_runs.clear()
            await self._has_runs.wait()
        self._stop_work(await self._leases.cancel_requests(self._owner))
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
                await self._leases.log(run.job, lines)
