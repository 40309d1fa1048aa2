"""Whose turn it is, who holds a job, and how it ends: once."""

import asyncio
import json
from dataclasses import replace

import pytest
from sqlalchemy import select

from serve_app.errors import Overloaded, UnknownJob
from serve_app.jobs.job import CancelAnswer, JobState, LogLine
from serve_app.jobs.queue import UNSTORED_SECONDS
from serve_app.jobs.tables import INPUTS
from tests.support.jobs_harness import BROKEN, DONE, ENGINE_BROKE, HOOK, KEY, Harness, new_job


async def state(harness: Harness, job_id: str) -> JobState:
    return (await harness.queue.get(job_id, KEY)).state


async def test_a_new_job_waits_and_keeps_what_it_was_given(harness: Harness) -> None:
    job_id = await harness.submitted("Grüße, 世界 \U0001f600", headers={"traceparent": "00-1"})
    job = await harness.queue.get(job_id, KEY)
    assert (job.state, job.priority, job.endpoint, job.attempt) == (JobState.QUEUED, "normal", "csm-1b", 0)
    assert job.created_at == harness.clock.now and job.started_at is job.ended_at is job.error is None
    leased = await harness.leased()
    assert (leased.id, leased.input, leased.headers) == (
        job_id,
        {"text": "Grüße, 世界 \U0001f600"},
        {"traceparent": "00-1"},
    )


async def test_normal_goes_before_low_and_the_earlier_before_the_later(harness: Harness) -> None:
    order = [("a", "low"), ("b", "normal"), ("c", "low"), ("d", "normal")]
    ids = {text: await harness.submitted(text, priority=priority) for text, priority in order}
    positions = {text: (await harness.queue.status(ids[text], KEY)).position for text in ids}
    assert positions == {"b": 0, "d": 1, "a": 2, "c": 3}
    assert [(await harness.leased()).input["text"] for _ in ids] == ["b", "d", "a", "c"]
    assert await harness.leases.lease("runner-1") is None


async def test_a_job_that_is_not_queued_has_no_position(harness: Harness) -> None:
    first, second = await harness.submitted("a"), await harness.submitted("b")
    await harness.leased()
    assert (await harness.queue.status(first, KEY)).position is None
    assert (await harness.queue.status(second, KEY)).position == 0


async def test_two_runners_never_get_the_same_job(harness: Harness) -> None:
    ids = {await harness.submitted(str(n)) for n in range(12)}
    leased = await asyncio.gather(*(harness.leases.lease(f"runner-{n}") for n in range(12)))
    got = [job.id for job in leased if job is not None]
    while (job := await harness.leases.lease("runner-late")) is not None:  # locked rows were passed over
        got.append(job.id)
    assert sorted(got) == sorted(ids)


async def test_jobs_of_keys_at_their_limit_are_passed_over(harness: Harness) -> None:
    await harness.submitted("a", key_id="full")
    await harness.submitted("b", key_id="free")
    leased = await harness.leases.lease("runner-1", {"full"})
    assert leased is not None and leased.key_id == "free"
    assert await harness.leases.lease("runner-1", {"full"}) is None


async def test_a_result_is_recorded_once(harness: Harness) -> None:
    job_id = await harness.submitted()
    assert await harness.queue.result(job_id, KEY) is None
    leased = await harness.leased()
    harness.clock.pass_by(3)
    assert await harness.leases.finish(leased, DONE) is JobState.COMPLETED
    assert await harness.leases.finish(leased, BROKEN) is None
    assert await harness.leases.retry(leased, ENGINE_BROKE) is None
    assert await harness.leases.give_back(leased, "late") is None
    assert await harness.queue.result(job_id, KEY) == DONE
    job = await harness.queue.get(job_id, KEY)
    assert (job.state, job.ended_at, job.inference_seconds) == (JobState.COMPLETED, harness.clock.now, 1.5)


async def test_a_lost_attempt_changes_nothing(harness: Harness) -> None:
    job_id = await harness.submitted()
    lost = await harness.leased("runner-1")
    harness.clock.pass_by(harness.settings.lease_seconds + 1)
    assert (await harness.leases.expire()).lost == 1
    current = await harness.leased("runner-2")
    assert current.attempt == lost.attempt + 1 and current.run_id != lost.run_id
    assert await harness.leases.heartbeat([lost]) == {lost.run_id}
    await harness.leases.log(lost, [LogLine(1.0, "INFO", "from the dead")])
    assert await harness.leases.finish(lost, BROKEN) is None
    assert await harness.leases.finish(current, DONE) is JobState.COMPLETED
    assert await harness.leases.finish(lost, BROKEN) is None
    assert await harness.queue.result(job_id, KEY) == DONE
    assert (await harness.queue.status(job_id, KEY, 0)).logs == ()


async def test_a_lease_that_is_renewed_is_not_lost(harness: Harness) -> None:
    await harness.submitted()
    leased = await harness.leased()
    for _ in range(5):
        harness.clock.pass_by(harness.settings.lease_seconds * 0.9)
        assert await harness.leases.heartbeat([leased]) == set()
        assert (await harness.leases.expire()).lost == 0


async def test_a_job_whose_runners_die_ends_with_the_reason(harness: Harness) -> None:
    job_id = await harness.submitted(webhook_url=HOOK)
    for attempt in range(harness.settings.max_attempts):
        assert (await harness.leased()).attempt == attempt + 1
        harness.clock.pass_by(harness.settings.lease_seconds + 1)
        await harness.leases.expire()
    result = await harness.queue.result(job_id, KEY)
    assert result is not None and result.error is not None and result.error.kind == "runner_lost"
    assert await state(harness, job_id) is JobState.FAILED
    assert len(await harness.outbox.list()) == 1


async def test_a_failed_attempt_is_followed_by_others_after_growing_pauses(harness: Harness) -> None:
    job_id = await harness.submitted()
    for pause in (1.0, 2.0):
        assert await harness.leases.retry(await harness.leased(), ENGINE_BROKE) is JobState.QUEUED
        harness.clock.pass_by(pause * 0.99)
        assert await harness.leases.lease("runner-1") is None
        harness.clock.pass_by(pause * 0.01)
    assert (await harness.queue.get(job_id, KEY)).reason == "attempt 2: the engine broke"
    assert await harness.leases.retry(await harness.leased(), ENGINE_BROKE) is JobState.FAILED
    assert await harness.queue.result(job_id, KEY) == BROKEN


async def test_a_caller_may_ask_for_a_single_attempt(harness: Harness) -> None:
    await harness.submitted(max_attempts=1)
    assert await harness.leases.retry(await harness.leased(), ENGINE_BROKE) is JobState.FAILED


async def test_a_job_given_back_keeps_its_place_and_its_attempts(harness: Harness) -> None:
    first = await harness.submitted("a")
    await harness.submitted("b")
    for _ in range(harness.settings.max_attempts + 2):
        leased = await harness.leased()
        assert leased.id == first
        assert await harness.leases.give_back(leased, "its runner was stopped") is JobState.QUEUED
    assert (await harness.queue.get(first, KEY)).reason == "its runner was stopped"


async def test_a_job_that_did_not_start_in_time_ends_as_such(harness: Harness) -> None:
    job_id = await harness.submitted(start_timeout_seconds=10.0, webhook_url=HOOK)
    in_time = await harness.submitted("b")
    harness.clock.pass_by(10)
    assert (await harness.leased()).id == in_time  # late by nothing, and not begun any more
    expired = await harness.leases.expire()
    assert (expired.lost, expired.ended) == (0, 1)
    result = await harness.queue.result(job_id, KEY)
    assert result is not None and result.error is not None and result.error.kind == "start_timeout"
    assert len(await harness.outbox.list()) == 1


async def test_a_job_that_started_once_is_never_too_late(harness: Harness) -> None:
    job_id = await harness.submitted(start_timeout_seconds=10.0)
    assert await harness.leases.give_back(await harness.leased(), "its runner was stopped") is JobState.QUEUED
    harness.clock.pass_by(100)
    await harness.leases.expire()
    assert (await harness.leased()).id == job_id


async def test_a_job_that_was_refused_did_not_start(harness: Harness) -> None:
    job_id = await harness.submitted(start_timeout_seconds=10.0)
    assert await harness.leases.refuse(await harness.leased(), "no slot", 2.0) is JobState.QUEUED
    assert await harness.leases.lease("runner-1") is None
    harness.clock.pass_by(11)
    await harness.leases.expire()
    assert await state(harness, job_id) is JobState.FAILED


async def test_refusals_are_no_attempts(harness: Harness) -> None:
    await harness.submitted()
    for _ in range(harness.settings.max_attempts + 2):
        assert await harness.leases.refuse(await harness.leased(), "no slot", 2.0) is JobState.QUEUED
        harness.clock.pass_by(2)
    assert (await harness.leased()).failures == 0


async def test_a_waiting_job_is_cancelled_at_once(harness: Harness) -> None:
    job_id = await harness.submitted(webhook_url=HOOK)
    assert await harness.queue.cancel(job_id, KEY) is CancelAnswer.CANCELLED
    assert await harness.leases.lease("runner-1") is None
    result = await harness.queue.result(job_id, KEY)
    assert result is not None and result.error is not None and result.error.kind == "cancelled"
    assert await harness.queue.cancel(job_id, KEY) is CancelAnswer.ALREADY_COMPLETED


async def test_a_running_job_is_stopped_by_its_runner(harness: Harness) -> None:
    job_id = await harness.submitted()
    leased = await harness.leased("runner-1")
    assert await harness.queue.cancel(job_id, KEY) is CancelAnswer.REQUESTED
    assert await harness.leases.cancel_requests("runner-1") == {leased.run_id}
    assert await harness.leases.cancel_requests("runner-2") == set()
    assert await harness.leases.heartbeat([leased]) == {leased.run_id}
    assert await harness.leases.give_back(leased, "stopped") is JobState.CANCELLED
    assert await state(harness, job_id) is JobState.CANCELLED


@pytest.mark.parametrize("way", ["lost", "failed", "refused"])
async def test_a_cancelled_job_does_not_run_again(harness: Harness, way: str) -> None:
    job_id = await harness.submitted()
    leased = await harness.leased()
    await harness.queue.cancel(job_id, KEY)
    if way == "lost":
        harness.clock.pass_by(harness.settings.lease_seconds + 1)
        await harness.leases.expire()
    elif way == "failed":
        await harness.leases.retry(leased, ENGINE_BROKE)
    else:
        await harness.leases.refuse(leased, "no slot", 1.0)
    assert await state(harness, job_id) is JobState.CANCELLED


async def test_what_was_done_before_the_cancellation_came_counts(harness: Harness) -> None:
    job_id = await harness.submitted()
    leased = await harness.leased()
    await harness.queue.cancel(job_id, KEY)
    assert await harness.leases.finish(leased, DONE) is JobState.COMPLETED
    assert await harness.queue.result(job_id, KEY) == DONE


async def test_no_more_jobs_wait_than_may(harness: Harness) -> None:
    small = harness.with_settings(max_queued=2)
    kept = await small.submitted("a", idempotency_key="k")
    await small.submitted("b")
    with pytest.raises(Overloaded, match=r"jobs\.max_queued"):
        await small.submitted("c")
    assert (await small.queue.submit(new_job("a", idempotency_key="k"))).id == kept  # no new one
    await small.leased()
    await small.submitted("c")


async def test_another_keys_job_is_unknown(harness: Harness) -> None:
    job_id = await harness.submitted()
    for ask in (harness.queue.get, harness.queue.status, harness.queue.result, harness.queue.cancel):
        with pytest.raises(UnknownJob, match=job_id):
            await ask(job_id, "another")
        with pytest.raises(UnknownJob, match="nobody"):
            await ask("nobody", KEY)
    assert await state(harness, job_id) is JobState.QUEUED


async def test_logs_are_kept_in_order_up_to_a_number(harness: Harness) -> None:
    few = harness.with_settings(max_log_lines=3)
    job_id = await few.submitted()
    leased = await few.leased()
    await few.leases.log(leased, [LogLine(1.0, "INFO", "one"), LogLine(2.0, "WARN", "two")])
    await few.leases.log(leased, [LogLine(3.0, "INFO", "three"), LogLine(4.0, "INFO", "four")])
    logs = (await few.queue.status(job_id, KEY, 0)).logs
    assert [(line.at, line.level, line.message) for line in logs] == [
        (1.0, "INFO", "one"),
        (2.0, "WARN", "two"),
        (3.0, "INFO", "three"),
    ]
    assert (await few.queue.status(job_id, KEY, logs[1].number)).logs == logs[2:]
    assert (await few.queue.status(job_id, KEY)).logs == ()


async def test_the_backlog_is_what_is_not_over(harness: Harness) -> None:
    for text in "abc":
        await harness.submitted(text)
    await harness.leases.finish(await harness.leased(), DONE)
    await harness.leased()
    backlog = await harness.leases.backlog()
    assert (backlog.queued, backlog.running) == (1, 1)


class Deleted:
    def __init__(self) -> None:
        self.ids: list[str] = []

    async def delete(self, file_id: str) -> None:
        self.ids.append(file_id)


async def test_old_jobs_are_forgotten_with_their_files(harness: Harness) -> None:
    old = await harness.submitted("a")
    leased = await harness.leased()
    await harness.leases.log(leased, [LogLine(1.0, "INFO", "one")])
    await harness.leases.finish(leased, replace(DONE, file_id="f-1"))
    waiting = await harness.submitted("b")
    harness.clock.pass_by(harness.settings.kept_seconds - 1)
    files = Deleted()
    assert await harness.queue.sweep(files) == 0
    harness.clock.pass_by(2)
    assert await harness.queue.sweep(files) == 1
    assert files.ids == ["f-1"]
    with pytest.raises(UnknownJob):
        await harness.queue.get(old, KEY)
    assert await state(harness, waiting) is JobState.QUEUED


async def test_of_a_job_that_is_not_to_be_stored_little_is_left_and_not_for_long(harness: Harness) -> None:
    job_id = await harness.submitted("a secret", stores_io=False, webhook_url=HOOK)
    usual = await harness.submitted("another", webhook_url=HOOK)
    for _ in range(2):
        leased = await harness.leased()
        assert leased.input["text"] == ("a secret" if leased.id == job_id else "another")
        await harness.leases.finish(leased, replace(DONE, file_id="f-1"))
    with harness.database.reading() as connection:
        assert [json.loads(row)["text"] for row in connection.scalars(select(INPUTS.c.input))] == []
    assert (await harness.queue.result(job_id, KEY)) == replace(DONE, file_id="f-1")
    files = Deleted()
    harness.clock.pass_by(UNSTORED_SECONDS + 1)
    assert await harness.queue.sweep(files) == 0, "its end is still to be told"
    for webhook in await harness.webhooks_due(2):
        assert "audio" in webhook.body
        await harness.outbox.delivered(webhook)
    bodies = {webhook.id: webhook.body for webhook in await harness.outbox.list()}
    assert (bodies[job_id], "audio" in bodies[usual]) == ("", True)
    assert await harness.queue.sweep(files) == 1
    assert files.ids == [], "files have a time of their own"
    with pytest.raises(UnknownJob):
        await harness.queue.get(job_id, KEY)
    assert await state(harness, usual) is JobState.COMPLETED


async def test_a_job_that_is_not_to_be_stored_can_be_run_again(harness: Harness) -> None:
    await harness.submitted("a secret", stores_io=False)
    await harness.leases.retry(await harness.leased(), ENGINE_BROKE)
    harness.clock.pass_by(60)
    assert (await harness.leased()).input["text"] == "a secret"
