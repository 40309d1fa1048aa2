"""One process runs jobs, tells of their ends, and forgets the old ones, all at once."""

import asyncio
from dataclasses import dataclass, field

import pytest

from serve_app.errors import StartupError, UnknownJob
from serve_app.jobs import service
from serve_app.jobs.job import JobResult, LeasedJob
from serve_app.jobs.runner import JobRunner, Progress
from serve_app.jobs.service import JobService
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhooks import WebhookSender, WebhookState
from serve_app.settings import JobSettings
from tests.support.jobs_harness import BROKEN, DONE, HOOK, KEY, Harness, PlainWebhookFormat
from tests.support.recording_meter import RecordingMeter


class Work:
    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        return JobResult({}, file_id="f-1")


@dataclass
class World:
    """Receivers and files."""

    told: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    async def post(
        self, url: str, content: bytes, headers: dict[str, str], timeout_seconds: float, owner: str = ""
    ) -> int:
        self.told.append(headers["X-Job"])
        return 200

    async def delete(self, file_id: str) -> None:
        self.deleted.append(file_id)


async def is_told(harness: Harness) -> bool:
    return [webhook.state for webhook in await harness.outbox.list()] == [WebhookState.DELIVERED]


async def is_known(harness: Harness, job_id: str) -> bool:
    try:
        await harness.queue.get(job_id, KEY)
    except UnknownJob:
        return False
    return True


async def test_a_job_goes_its_whole_way(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(service, "_COUNT_SECONDS", 0.05)
    world, meter = World(), RecordingMeter()
    runner = JobRunner(harness.leases, Work(), harness.settings, "r-1", meter)
    sender = WebhookSender(harness.outbox, world, PlainWebhookFormat(), harness.webhooks, meter, harness.clock)
    jobs = JobService(harness.queue, harness.outbox, runner, sender, world, meter)
    task = asyncio.create_task(jobs.run())
    job_id = await harness.submitted(webhook_url=HOOK)
    async with asyncio.timeout(30):
        while not await is_told(harness) or "csm_webhooks_pending" not in meter.gauges:
            await asyncio.sleep(0.02)
        assert world.told == [job_id]
        assert world.deleted == []
        harness.clock.pass_by(harness.settings.kept_seconds + 1)
        while await is_known(harness, job_id) or await harness.outbox.list():
            await asyncio.sleep(0.02)
        assert world.deleted == ["f-1"]
    await jobs.stop()
    await harness.submitted()
    await asyncio.sleep(0.3)
    assert (await harness.leases.backlog()).queued == 1  # it takes none any more
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_bug_in_a_loop_is_not_hidden(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = JobRunner(harness.leases, Work(), harness.settings, "r-1")
    sender = WebhookSender(harness.outbox, World(), PlainWebhookFormat(), harness.webhooks)

    async def buggy(owner: str, excluded_keys: object) -> LeasedJob | None:
        raise ZeroDivisionError

    monkeypatch.setattr(JobLeases, "lease", lambda self, owner, excluded_keys: buggy(owner, excluded_keys))
    with pytest.raises(ExceptionGroup) as raised:
        await JobService(harness.queue, harness.outbox, runner, sender, World()).run()
    assert raised.group_contains(ZeroDivisionError)


def test_a_heartbeat_that_may_not_be_late_once_is_refused() -> None:
    with pytest.raises(StartupError, match=r"jobs\.heartbeat_seconds is 20, above half of jobs\.lease_seconds \(30\)"):
        JobSettings(heartbeat_seconds=20)


def test_a_result_that_went_well_says_so() -> None:
    assert DONE.is_success and not BROKEN.is_success
