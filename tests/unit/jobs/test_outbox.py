"""Webhooks are kept until they are delivered, or given up where everybody can see it."""

import json

import pytest

from serve_app.jobs.job import JobResult
from serve_app.jobs.webhooks import Webhook, WebhookState, retry_delay
from serve_app.settings import WebhookSettings
from tests.support.jobs_harness import BROKEN, DONE, HOOK, KEY, Harness


async def ended(harness: Harness, result: JobResult = DONE) -> str:
    job_id = await harness.submitted(webhook_url=HOOK)
    await harness.leases.finish(await harness.leased(), result)
    return job_id


async def due(harness: Harness) -> Webhook:
    (webhook,) = await harness.webhooks_due(10)
    return webhook


async def test_a_job_that_ends_well_is_told_with_its_output(harness: Harness) -> None:
    job_id = await ended(harness)
    webhook = await due(harness)
    assert (webhook.id, webhook.url, webhook.key_id) == (job_id, HOOK, KEY)
    assert json.loads(webhook.body) == {"id": job_id, "output": DONE.output, "error": None}


async def test_a_job_that_fails_is_told_with_its_error(harness: Harness) -> None:
    job_id = await ended(harness, BROKEN)
    body = json.loads((await due(harness)).body)
    assert body == {"id": job_id, "output": None, "error": "the engine broke"}


async def test_a_job_without_a_webhook_has_none(harness: Harness) -> None:
    await harness.submitted()
    await harness.leases.finish(await harness.leased(), DONE)
    assert await harness.outbox.list() == []


async def test_a_webhook_is_in_one_senders_hands(harness: Harness) -> None:
    await ended(harness)
    await due(harness)
    assert await harness.webhooks_due(10) == []
    harness.clock.pass_by(60)  # that sender died
    assert (await due(harness)).lease == 2


async def test_no_more_are_taken_than_there_is_room_for(harness: Harness) -> None:
    for _ in range(3):
        await ended(harness)
    assert [len(await harness.webhooks_due(2)) for _ in range(3)] == [2, 1, 0]


async def test_retries_come_later_and_later_until_it_is_a_dead_letter(harness: Harness) -> None:
    await ended(harness)
    waited = 0.0
    for number in range(harness.webhooks.max_retries):
        assert await harness.outbox.failed(await due(harness), "refused") is WebhookState.PENDING
        pause = retry_delay(number, harness.webhooks)
        harness.clock.pass_by(pause * 0.99)
        assert await harness.webhooks_due(1) == []
        harness.clock.pass_by(pause * 0.02)
        waited += pause
    assert 1.5 * 3600 < waited < 2.5 * 3600
    assert await harness.outbox.failed(await due(harness), "refused") is WebhookState.DEAD
    assert await harness.outbox.counts() == {WebhookState.PENDING: 0, WebhookState.DEAD: 1}
    (letter,) = await harness.outbox.list(WebhookState.DEAD)
    assert (letter.failures, letter.reason) == (11, "refused")


def test_delays_double_up_to_the_longest() -> None:
    delays = [retry_delay(n, WebhookSettings()) for n in range(10)]
    assert delays == [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]


async def test_a_dead_letter_can_be_sent_again(harness: Harness) -> None:
    job_id = await ended(harness)
    await harness.outbox.failed(await due(harness), "not allowed", for_good=True)
    assert await harness.webhooks_due(1) == []
    assert not await harness.outbox.revive("nobody")
    assert await harness.outbox.revive(job_id)
    assert not await harness.outbox.revive(job_id)  # it is alive
    assert (await due(harness)).failures == 0


@pytest.mark.parametrize("late", ["delivered", "failed"])
async def test_a_delivered_webhook_stays_delivered(harness: Harness, late: str) -> None:
    await ended(harness)
    slow = await due(harness)
    harness.clock.pass_by(60)
    quick = await due(harness)
    await harness.outbox.delivered(quick)
    await (harness.outbox.delivered(slow) if late == "delivered" else harness.outbox.failed(slow, "too late"))
    (webhook,) = await harness.outbox.list()
    assert (webhook.state, webhook.failures) == (WebhookState.DELIVERED, 0)


async def test_a_lost_lease_says_nothing_of_the_next_attempt(harness: Harness) -> None:
    await ended(harness)
    slow = await due(harness)
    harness.clock.pass_by(60)
    await due(harness)
    await harness.outbox.failed(slow, "too late", for_good=True)
    (webhook,) = await harness.outbox.list()
    assert (webhook.state, webhook.failures) == (WebhookState.PENDING, 0)


async def test_old_webhooks_are_forgotten_and_pending_ones_are_not(harness: Harness) -> None:
    await ended(harness)
    await harness.outbox.delivered(await due(harness))
    pending = await ended(harness)
    harness.clock.pass_by(harness.webhooks.kept_seconds + 1)
    assert await harness.outbox.sweep() == 1
    assert [webhook.id for webhook in await harness.outbox.list()] == [pending]
