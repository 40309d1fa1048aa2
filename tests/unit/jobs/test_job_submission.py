"""A submit that is sent again is the same job; two that a user meant are two."""

import asyncio
import random

import pytest

from serve_app.errors import InvalidRequest
from serve_app.jobs.submission import Submission, submit
from tests.support.jobs_harness import DONE, KEY, Harness, new_job


async def test_an_idempotency_key_names_one_job(harness: Harness) -> None:
    first = await harness.submitted("a", idempotency_key="k")
    again = await harness.queue.submit(new_job("a", idempotency_key="k"))
    assert again.id == first
    await harness.leases.finish(await harness.leased(), DONE)
    assert (await harness.queue.submit(new_job("a", idempotency_key="k"))).id == first


async def test_an_idempotency_key_belongs_to_its_caller(harness: Harness) -> None:
    first = await harness.submitted("a", idempotency_key="k")
    assert await harness.submitted("a", idempotency_key="k", key_id="another") != first


async def test_an_idempotency_key_of_another_request_is_refused(harness: Harness) -> None:
    await harness.submitted("a", idempotency_key="k")
    with pytest.raises(InvalidRequest, match="idempotency_key: was used for another request"):
        await harness.queue.submit(new_job("b", idempotency_key="k"))


async def test_the_same_key_sent_at_the_same_moment_makes_one_job(harness: Harness) -> None:
    jobs = await asyncio.gather(*(harness.queue.submit(new_job("a", idempotency_key="k")) for _ in range(8)))
    assert len({job.id for job in jobs}) == 1
    assert (await harness.leases.backlog()).queued == 1


async def test_a_submit_that_was_never_answered_is_sent_again(harness: Harness) -> None:
    lost = await harness.queue.submit(new_job("a"))
    harness.clock.pass_by(harness.settings.resend_wait_seconds)
    assert (await harness.queue.submit(new_job("a"))).id == lost.id
    assert (await harness.leases.backlog()).queued == 1


async def test_a_submit_after_an_answered_one_is_meant(harness: Harness) -> None:
    first = await harness.submitted("a")
    harness.clock.pass_by(5)
    assert await harness.submitted("a") != first


async def test_each_unanswered_job_is_handed_to_one_submit(harness: Harness) -> None:
    """Two equal submits, both cut off, both sent again: each gets one of the two."""
    first = await harness.queue.submit(new_job("a"))
    second_id = (await harness.with_settings(resend_seconds=0.0).queue.submit(new_job("a"))).id
    assert second_id != first.id
    harness.clock.pass_by(1)
    again = {(await harness.queue.submit(new_job("a"))).id, (await harness.queue.submit(new_job("a"))).id}
    assert again == {first.id, second_id}


@pytest.mark.parametrize(
    "other",
    [
        {"text": "b"},
        {"key_id": "another"},
        {"webhook_url": "https://example.com/other"},
        {"priority": "low"},
        {"endpoint": "csm-1b/dialogue"},
        {"start_timeout_seconds": 5.0},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_another_request_is_another_job(harness: Harness, other: dict[str, str]) -> None:
    lost = await harness.queue.submit(new_job("a"))
    harness.clock.pass_by(5)
    assert (await harness.queue.submit(new_job(**({"text": "a"} | other)))).id != lost.id


async def test_what_was_lost_long_ago_is_not_looked_for(harness: Harness) -> None:
    lost = await harness.queue.submit(new_job("a"))
    harness.clock.pass_by(harness.settings.resend_seconds + 1)
    assert (await harness.queue.submit(new_job("a"))).id != lost.id


async def test_two_equal_submits_at_once_are_two_jobs(harness: Harness) -> None:
    """The second waits until the first is answered, which tells that it is not the first, sent again."""
    first = await harness.queue.submit(new_job("a"))
    second = asyncio.create_task(harness.queue.submit(new_job("a")))
    await asyncio.sleep(0.2)
    assert not second.done()
    await harness.queue.answered(first.id)
    assert (await second).id != first.id


async def test_a_second_submit_that_waits_in_vain_is_the_first_sent_again(harness: Harness) -> None:
    first = await harness.queue.submit(new_job("a"))
    second = asyncio.create_task(harness.queue.submit(new_job("a")))
    await asyncio.sleep(0.1)
    harness.clock.pass_by(harness.settings.resend_wait_seconds)
    assert (await second).id == first.id


async def test_a_job_that_is_over_is_still_the_one_that_was_asked_for(harness: Harness) -> None:
    lost = await harness.queue.submit(new_job("a"))
    await harness.leases.finish(await harness.leased(), DONE)
    harness.clock.pass_by(2)
    again = await harness.queue.submit(new_job("a"))
    assert again.id == lost.id
    assert await harness.queue.result(again.id, KEY) == DONE


async def test_an_idempotency_key_that_is_too_long_is_refused(harness: Harness) -> None:
    longest = random.Random(0).randbytes(200).hex()[:255]
    assert (await harness.queue.submit(new_job("a", idempotency_key=longest))).key_id == KEY
    for too_long in (longest + "0", longest * 100):
        with pytest.raises(InvalidRequest, match="idempotency_key: has more than 255 characters"):
            await harness.queue.submit(new_job("a", idempotency_key=too_long))


async def test_a_submit_sent_again_while_the_first_is_still_being_written_waits_for_it(harness: Harness) -> None:
    first = Submission(new_job("a"), harness.clock.now, harness.clock.now)
    harness.clock.pass_by(0.1)
    with harness.database.writing() as connection:
        first_id = submit(connection, first, harness.settings)
        again = asyncio.create_task(harness.queue.submit(new_job("a")))
        await asyncio.sleep(0.3)
        assert not again.done()
    harness.clock.pass_by(harness.settings.resend_wait_seconds)
    assert (await again).id == first_id
    assert (await harness.leases.backlog()).queued == 1
