"""A runner runs what waits, stops what is cancelled, gives back what it cannot finish, and records each end once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from serve_app.errors import (
    CsmServeError,
    GenerationFailed,
    InvalidRequest,
    LimitReached,
    NotReady,
    Overloaded,
    ReplicaLost,
    StorageFailed,
    Unauthorized,
)
from serve_app.jobs.job import CancelAnswer, JobResult, JobState, LeasedJob
from serve_app.jobs.runner import JobRunner, Progress
from serve_app.turns import current_owner
from tests.support.jobs_harness import DONE, KEY, Harness
from tests.support.recording_meter import RecordingMeter

Act = Callable[[LeasedJob, Progress], Awaitable[JobResult]]


@dataclass
class FakeWork:
    """Does `act`, and remembers what it was asked for and what it left."""

    act: Act
    begun: list[LeasedJob] = field(default_factory=list)
    num_running: int = 0
    most_running: int = 0

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        self.begun.append(job)
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            return await self.act(job, progress)
        finally:
            await asyncio.sleep(0)  # closing takes its time
            self.num_running -= 1


async def done(job: LeasedJob, progress: Progress) -> JobResult:
    return DONE


async def never(job: LeasedJob, progress: Progress) -> JobResult:
    await asyncio.Event().wait()
    return DONE


def raising(error: Exception, times: int = 10**6) -> Act:
    async def act(job: LeasedJob, progress: Progress) -> JobResult:
        if job.attempt <= times:
            raise error
        return DONE

    return act


def runner_of(harness: Harness, work: FakeWork, meter: RecordingMeter | None = None, owner: str = "r-1") -> JobRunner:
    return JobRunner(harness.leases, work, harness.settings, owner, meter or RecordingMeter())


@asynccontextmanager
async def running(runner: JobRunner) -> AsyncIterator[None]:
    task = asyncio.create_task(runner.run())
    yield
    await runner.stop()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def until_state(harness: Harness, job_id: str, *states: JobState) -> None:
    async def reached() -> bool:
        return (await harness.queue.get(job_id, KEY)).state in states

    await until(reached)


@pytest.fixture
def quick(harness: Harness) -> Harness:
    """Looks often. The clock stands still, but for what a test lets pass."""
    return harness.with_settings(poll_seconds=0.02, heartbeat_seconds=0.05, max_running=3)


async def test_jobs_run_and_end_with_their_results(quick: Harness) -> None:
    ids = [await quick.submitted(str(n)) for n in range(7)]
    meter = RecordingMeter()
    async with running(runner_of(quick, FakeWork(done), meter)):
        for job_id in ids:
            await until_state(quick, job_id, JobState.COMPLETED)
            assert await quick.queue.result(job_id, KEY) == DONE
    assert meter.counted["csm_jobs_ended_total{completed}"] == 7
    assert len(meter.observed["csm_job_queue_seconds"]) == len(meter.observed["csm_job_seconds"]) == 7


async def test_no_more_run_at_once_than_there_is_room_for(quick: Harness) -> None:
    full = asyncio.Event()

    async def slow(job: LeasedJob, progress: Progress) -> JobResult:
        await full.wait()
        return DONE

    work = FakeWork(slow)
    ids = [await quick.submitted(str(n)) for n in range(8)]
    async with running(runner_of(quick, work)):
        await until(lambda: _is(lambda: work.num_running == 3))
        full.set()
        for job_id in ids:
            await until_state(quick, job_id, JobState.COMPLETED)
    assert work.most_running == 3


async def test_what_the_work_says_is_read_while_it_runs(quick: Harness) -> None:
    async def talking(job: LeasedJob, progress: Progress) -> JobResult:
        progress.log("turn 1 of 2")
        progress.log("careful", "WARN")
        return await never(job, progress)

    job_id = await quick.submitted()

    async def read() -> bool:
        logs = (await quick.queue.status(job_id, KEY, 0)).logs
        return [(line.level, line.message) for line in logs] == [("INFO", "turn 1 of 2"), ("WARN", "careful")]

    async with running(runner_of(quick, FakeWork(talking))):
        await until(read)


async def test_the_last_words_come_before_the_end(quick: Harness) -> None:
    async def talking(job: LeasedJob, progress: Progress) -> JobResult:
        for number in range(20):
            progress.log(f"line {number}")
            await asyncio.sleep(0.003)
        return DONE

    job_id = await quick.submitted()
    async with running(runner_of(quick, FakeWork(talking))):
        await until_state(quick, job_id, JobState.COMPLETED)
    logs = (await quick.queue.status(job_id, KEY, 0)).logs
    assert [line.message for line in logs] == [f"line {number}" for number in range(20)]


async def test_a_cancelled_job_is_stopped(quick: Harness) -> None:
    job_id = await quick.submitted()
    work = FakeWork(never)
    async with running(runner_of(quick.with_settings(heartbeat_seconds=10.0), work)):
        await until_state(quick, job_id, JobState.RUNNING)
        assert await quick.queue.cancel(job_id, KEY) is CancelAnswer.REQUESTED
        await until_state(quick, job_id, JobState.CANCELLED)
        assert work.num_running == 0


async def test_a_job_that_was_lost_is_stopped_and_left_alone(quick: Harness) -> None:
    job_id = await quick.submitted()
    work = FakeWork(never)
    async with running(runner_of(quick.with_settings(max_running=1), work)):  # full: it does not take it again
        await until_state(quick, job_id, JobState.RUNNING)
        quick.clock.pass_by(quick.settings.lease_seconds + 1)
        await quick.leases.expire()
        other = await quick.leased("another")
        await until(lambda: _is(lambda: work.num_running == 0))
        assert (await quick.queue.get(job_id, KEY)).attempt == other.attempt


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_a_stopping_runner_gives_its_jobs_back_at_once(quick: Harness) -> None:
    ids = [await quick.submitted(str(n)) for n in range(5)]
    work = FakeWork(never)
    async with running(runner_of(quick, work)):
        await until(lambda: _is(lambda: len(work.begun) == 3))
    assert work.num_running == 0
    backlog = await quick.leases.backlog()
    assert (backlog.queued, backlog.running) == (5, 0)
    async with running(runner_of(quick, FakeWork(done), owner="r-2")):
        for job_id in ids:
            await until_state(quick, job_id, JobState.COMPLETED)


async def test_a_draining_runner_lets_its_jobs_end_and_takes_no_more(quick: Harness) -> None:
    ids = [await quick.submitted(str(n)) for n in range(4)]
    over = asyncio.Event()

    async def ends_later(job: LeasedJob, progress: Progress) -> JobResult:
        await over.wait()
        return DONE

    work = FakeWork(ends_later)
    runner = runner_of(quick, work)
    task = asyncio.create_task(runner.run())
    await until(lambda: _is(lambda: len(work.begun) == 3))
    stopping = asyncio.create_task(runner.stop(drain_seconds=30))
    await asyncio.sleep(0.05)
    assert not stopping.done() and work.num_running == 3
    over.set()
    await asyncio.wait_for(stopping, 10)
    task.cancel()
    states = [(await quick.queue.get(job_id, KEY)).state for job_id in ids]
    assert sorted(states) == [JobState.COMPLETED] * 3 + [JobState.QUEUED]
    assert len(work.begun) == 3


async def test_bad_input_is_told_and_not_tried_again(quick: Harness) -> None:
    job_id = await quick.submitted()
    work = FakeWork(raising(InvalidRequest("context[0].audio", "cannot be fetched")))
    async with running(runner_of(quick, work)):
        await until_state(quick, job_id, JobState.FAILED)
    result = await quick.queue.result(job_id, KEY)
    assert result == JobResult.failed(InvalidRequest("context[0].audio", "cannot be fetched"))
    assert len(work.begun) == 1


async def test_a_revoked_key_ends_its_jobs(quick: Harness) -> None:
    job_id = await quick.submitted()
    async with running(runner_of(quick, FakeWork(raising(Unauthorized("revoked"))))):
        await until_state(quick, job_id, JobState.FAILED)
    assert (await quick.queue.get(job_id, KEY)).attempt == 1


@pytest.mark.parametrize(
    "error",
    [ReplicaLost("a replica died"), GenerationFailed("it broke"), ValueError("a bug")],
    ids=["lost", "broke", "bug"],
)
async def test_what_may_pass_is_tried_again(quick: Harness, error: Exception) -> None:
    job_id = await quick.submitted()
    work = FakeWork(raising(error, times=2))
    meter = RecordingMeter()
    async with running(runner_of(quick, work, meter)):
        while (await quick.queue.get(job_id, KEY)).state is not JobState.COMPLETED:
            quick.clock.pass_by(1)
            await asyncio.sleep(0.02)
    assert await quick.queue.result(job_id, KEY) == DONE
    assert len(work.begun) == 3
    assert meter.counted["csm_jobs_put_back_total"] == 2


async def test_what_does_not_pass_ends_with_the_reason_and_no_traceback(quick: Harness) -> None:
    job_id = await quick.submitted()
    async with running(runner_of(quick, FakeWork(raising(ValueError("secret text of a user"))))):
        while (await quick.queue.get(job_id, KEY)).state is not JobState.FAILED:
            quick.clock.pass_by(1)
            await asyncio.sleep(0.02)
    result = await quick.queue.result(job_id, KEY)
    assert result is not None and result.error is not None and result.error.kind == "internal_error"
    assert "secret" not in str(result) and (await quick.queue.get(job_id, KEY)).attempt == 3


@pytest.mark.parametrize("error", [Overloaded("no slot", 1), NotReady("loading")], ids=["overloaded", "not-ready"])
async def test_a_busy_engine_keeps_all_jobs_waiting(quick: Harness, error: CsmServeError) -> None:
    first, second = await quick.submitted("a"), await quick.submitted("b")
    work = FakeWork(raising(error, times=1))
    one = quick.with_settings(max_running=1)
    async with running(runner_of(one, work)):
        await until(lambda: _is(lambda: len(work.begun) == 1))
        await until_state(quick, first, JobState.QUEUED)
        await asyncio.sleep(0.2)
        assert len(work.begun) == 1
        assert (await quick.queue.get(first, KEY)).reason == str(error)
        quick.clock.pass_by(60)  # the pause of the job; the runner's own goes by a clock that does not stand still
        await until_state(quick, first, JobState.COMPLETED)
        while (await quick.queue.get(second, KEY)).state is not JobState.COMPLETED:
            quick.clock.pass_by(60)
            await asyncio.sleep(0.02)


async def test_a_key_at_its_limit_keeps_only_its_own_jobs_waiting(quick: Harness) -> None:
    async def act(job: LeasedJob, progress: Progress) -> JobResult:
        if job.key_id == "full":
            raise LimitReached("two requests run", 10)
        return DONE

    full = [await quick.submitted(str(n), key_id="full") for n in range(4)]
    free = [await quick.submitted(str(n)) for n in range(4)]
    work = FakeWork(act)
    async with running(runner_of(quick.with_settings(max_running=1), work)):
        for job_id in free:
            await until_state(quick, job_id, JobState.COMPLETED)
    assert [job.key_id for job in work.begun].count("full") == 1
    assert (await quick.queue.get(full[0], "full")).state is JobState.QUEUED


async def test_an_attempt_that_never_ends_has_failed(quick: Harness) -> None:
    job_id = await quick.submitted(max_attempts=1)
    work = FakeWork(never)
    async with running(runner_of(quick.with_settings(max_run_seconds=0.1), work)):
        await until_state(quick, job_id, JobState.FAILED)
    assert work.num_running == 0


async def test_a_runner_outlives_its_database(quick: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done is recorded once the database is back, and not done again."""
    job_id = await quick.submitted()
    work, leases = FakeWork(done), quick.leases
    finish, failures = leases.finish, [StorageFailed("gone")]

    async def finish_at_second_try(leased: LeasedJob, result: JobResult) -> JobState | None:
        if failures:
            raise failures.pop()
        return await finish(leased, result)

    monkeypatch.setattr(leases, "finish", finish_at_second_try)
    async with running(JobRunner(leases, work, quick.settings, "r-1", RecordingMeter())):
        await until_state(quick, job_id, JobState.COMPLETED)
    assert len(work.begun) == 1


async def test_runners_take_over_from_the_dead(quick: Harness) -> None:
    job_id = await quick.submitted()
    await quick.leased("dead")
    meter = RecordingMeter()
    async with running(runner_of(quick, FakeWork(done), meter)):
        quick.clock.pass_by(quick.settings.lease_seconds + 1)
        await until_state(quick, job_id, JobState.COMPLETED)
    assert meter.counted["csm_job_leases_lost_total"] == 1
    assert (await quick.queue.get(job_id, KEY)).attempt == 2


def test_progress_hands_out_each_line_once() -> None:
    progress = Progress()
    progress.log("one")
    assert [line.message for line in progress.take()] == ["one"]
    assert progress.take() == []


async def test_a_key_leaves_a_place_to_another_whose_job_came_lately(quick: Harness) -> None:
    async def by_name(job: LeasedJob, progress: Progress) -> JobResult:
        return DONE if job.input["text"].startswith("short") else await never(job, progress)

    work = FakeWork(by_name)
    first = await quick.submitted("short 1", key_id="one")
    async with running(runner_of(quick, work)):
        await until(lambda: _ended(quick, first, "one"))
        for number in range(5):
            await quick.submitted(f"long {number}", key_id="many")
        await until(lambda: _is(lambda: work.num_running == 2))
        second = await quick.submitted("short 2", key_id="one")
        await until(lambda: _ended(quick, second, "one"))
        assert work.num_running == 2


async def _ended(harness: Harness, job_id: str, key_id: str) -> bool:
    return (await harness.queue.get(job_id, key_id)).state == JobState.COMPLETED


async def test_a_job_is_worked_on_for_its_key(quick: Harness) -> None:
    """What its work asks of the database stands in the line of that key, and not in the runner's own."""
    owners = []

    async def act(job: LeasedJob, progress: Progress) -> JobResult:
        owners.append(current_owner())
        return DONE

    job_id = await quick.submitted()
    async with running(runner_of(quick, FakeWork(act))):
        await until_state(quick, job_id, JobState.COMPLETED)
    assert (owners, current_owner()) == ([KEY], "")
