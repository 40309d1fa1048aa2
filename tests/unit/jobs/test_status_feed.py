"""Many followers of jobs cost one query a poll; each sees every change and each log entry once."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing

import pytest

from serve_app.errors import StorageFailed, UnknownJob
from serve_app.jobs.job import Job, JobState, JobStatus, LogEntry, LogLine
from serve_app.jobs.status_feed import StatusFeed
from tests.support.jobs_harness import Harness, new_job

POLL = 0.01


def job(job_id: str, state: JobState) -> Job:
    return Job(job_id, "e", "k", state, "normal", 0.0, None, None, 0, None, None, None)


class Board:
    """The statuses of jobs, as a database would hold them."""

    def __init__(self, num_jobs: int) -> None:
        self.states = {str(number): JobState.QUEUED for number in range(num_jobs)}
        self.logs: list[LogEntry] = []
        self.num_reads = 0
        self.failure: StorageFailed | None = None

    async def read(self, logs_after: Mapping[str, int | None]) -> dict[str, JobStatus]:
        self.num_reads += 1
        if self.failure is not None:
            raise self.failure
        known = {job_id: after for job_id, after in logs_after.items() if job_id in self.states}
        return {job_id: self.status(job_id, after) for job_id, after in known.items()}

    def status(self, job_id: str, after: int | None = None) -> JobStatus:
        logs = () if after is None else tuple(entry for entry in self.logs if entry.number > after)
        return JobStatus(job(job_id, self.states[job_id]), None, logs)


async def states(feed: StatusFeed, board: Board, job_id: str) -> list[JobState]:
    async with aclosing(feed.follow(board.status(job_id), None)) as found:
        return [status.job.state async for status in found if status is not None]


async def test_any_number_of_followers_costs_one_query_a_poll() -> None:
    board = Board(100)
    feed = StatusFeed(board.read, POLL)
    began_at = time.monotonic()
    following = [asyncio.create_task(states(feed, board, job_id)) for job_id in board.states]
    while board.num_reads < 3:
        await asyncio.sleep(POLL)
    board.states = dict.fromkeys(board.states, JobState.COMPLETED)
    seen = await asyncio.gather(*following)
    assert seen == [[JobState.QUEUED, JobState.COMPLETED]] * 100
    assert board.num_reads <= 1 + (time.monotonic() - began_at) / POLL


async def test_a_follower_wakes_for_a_change_and_else_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection and its key are looked after at each wake, which costs more than the poll."""
    monkeypatch.setattr("serve_app.jobs.status_feed._QUIET_SECONDS", 10 * POLL)
    board = Board(1)
    feed = StatusFeed(board.read, POLL)
    async with aclosing(feed.follow(board.status("0"), None)) as statuses:
        assert await anext(statuses) is not None
        assert await anext(statuses) is None
        assert board.num_reads >= 5
        board.states["0"] = JobState.RUNNING
        reads = board.num_reads
        changed = await anext(statuses)
        assert changed is not None and changed.job.state is JobState.RUNNING
        assert board.num_reads <= reads + 2


async def test_each_follower_sees_each_log_entry_once() -> None:
    board = Board(1)
    feed = StatusFeed(board.read, POLL)
    board.logs = [LogEntry(1, 0.0, "INFO", "one"), LogEntry(2, 0.0, "INFO", "two")]

    async def numbers(after: int) -> list[int]:
        found = []
        async with aclosing(feed.follow(board.status("0", after), after)) as statuses:
            async for status in statuses:
                found += [] if status is None else [entry.number for entry in status.logs]
        return found

    following = [asyncio.create_task(numbers(after)) for after in (0, 1)]
    while board.num_reads < 2:
        await asyncio.sleep(POLL)
    board.logs.append(LogEntry(3, 0.0, "INFO", "three"))
    board.states["0"] = JobState.COMPLETED
    assert await asyncio.gather(*following) == [[1, 2, 3], [2, 3]]


@pytest.mark.parametrize("fault", ["deleted", "database"])
async def test_a_job_that_is_gone_and_a_database_that_fails_end_the_stream(fault: str) -> None:
    board = Board(1)
    feed = StatusFeed(board.read, POLL)
    following = asyncio.create_task(states(feed, board, "0"))
    await asyncio.sleep(0)
    if fault == "deleted":
        board.states.clear()
    else:
        board.failure = StorageFailed("away")
    with pytest.raises(UnknownJob if fault == "deleted" else StorageFailed):
        await following


async def test_the_queue_tells_many_statuses_at_once(harness: Harness) -> None:
    jobs = [await harness.queue.submit(new_job(text=f"{number}")) for number in range(3)]
    leased = await harness.leases.lease("runner")
    assert leased is not None
    await harness.leases.log(leased, [LogLine(0.0, "INFO", "begun"), LogLine(0.0, "INFO", "going")])
    found = await harness.queue.statuses({jobs[0].id: 0, jobs[1].id: None, jobs[2].id: 0, "unknown": 0})
    for submitted in jobs:
        alone = await harness.queue.status(submitted.id, submitted.key_id, 0)
        assert found[submitted.id] == alone
    assert [entry.message for entry in found[jobs[0].id].logs] == ["begun", "going"]
    assert len(found) == 3
