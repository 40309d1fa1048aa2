"""Webhooks are delivered with fresh headers each time, until an answer is 2xx."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from serve_app.errors import DeliveryFailed, DeliveryRefused
from serve_app.jobs.webhooks import WebhookSender, WebhookState
from tests.support.jobs_harness import DONE, HOOK, KEY, Harness, PlainWebhookFormat
from tests.support.recording_meter import RecordingMeter


class Receiver:
    """Answers with each of `answers` in turn, the last one for ever."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = answers
        self.got: list[tuple[str, bytes, dict[str, str]]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def post(
        self, url: str, content: bytes, headers: dict[str, str], timeout_seconds: float, owner: str = ""
    ) -> int:
        self.got.append((url, content, headers))
        await self.open.wait()
        answer = self._answers[min(len(self.got), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def sender_of(harness: Harness, receiver: Receiver, meter: RecordingMeter | None = None) -> WebhookSender:
    return WebhookSender(
        harness.outbox, receiver, PlainWebhookFormat(), harness.webhooks, meter or RecordingMeter(), harness.clock
    )


@asynccontextmanager
async def sending(sender: WebhookSender) -> AsyncIterator[None]:
    task = asyncio.create_task(sender.run())
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def ended(harness: Harness) -> str:
    job_id = await harness.submitted(webhook_url=HOOK)
    await harness.leases.finish(await harness.leased(), DONE)
    return job_id


async def until_state(harness: Harness, state: WebhookState, meanwhile: Callable[[], None] = lambda: None) -> None:
    async with asyncio.timeout(30):
        while [webhook.state for webhook in await harness.outbox.list()] != [state]:
            meanwhile()
            await asyncio.sleep(0.02)


async def test_a_webhook_is_delivered_once_with_the_headers_of_its_format(harness: Harness) -> None:
    job_id, receiver, meter = await ended(harness), Receiver(200), RecordingMeter()
    async with sending(sender_of(harness, receiver, meter)):
        await until_state(harness, WebhookState.DELIVERED)
        harness.clock.pass_by(10_000)
        await asyncio.sleep(0.1)
    ((url, body, headers),) = receiver.got
    assert url == HOOK and json.loads(body)["id"] == job_id
    assert (headers["X-Job"], headers["X-Key"], headers["X-Length"]) == (job_id, KEY, str(len(body)))
    assert headers["Content-Type"] == "application/json"
    assert meter.counted == {"csm_webhook_deliveries_total{delivered}": 1}


@pytest.mark.parametrize("answer", [500, 404, 302, 199, DeliveryFailed("no connection")], ids=str)
async def test_anything_but_2xx_is_tried_again_with_a_new_timestamp(harness: Harness, answer: int | Exception) -> None:
    await ended(harness)
    receiver = Receiver(answer, answer, 204)
    sender = sender_of(harness, receiver)
    for _ in range(3):
        (webhook,) = await harness.webhooks_due(1)
        await sender.deliver(webhook)
        harness.clock.pass_by(100)
    await until_state(harness, WebhookState.DELIVERED)
    assert len({headers["X-Time"] for _, _, headers in receiver.got}) == 3
    assert len({body for _, body, _ in receiver.got}) == 1


async def test_the_last_failure_leaves_a_dead_letter_with_its_reason(harness: Harness) -> None:
    await ended(harness)
    webhooks = harness.webhooks.model_copy(update={"max_retries": 2})
    few = Harness(harness.database, harness.clock, harness.settings, webhooks)
    receiver, meter = Receiver(503), RecordingMeter()
    async with sending(sender_of(few, receiver, meter)):
        await until_state(few, WebhookState.DEAD, meanwhile=lambda: few.clock.pass_by(5))
    (letter,) = await few.outbox.list(WebhookState.DEAD)
    assert letter.reason == "the receiver answered with status 503, not 2xx"
    assert len(receiver.got) == 3
    assert meter.counted == {
        "csm_webhook_deliveries_total{failed}": 2,
        "csm_webhook_deliveries_total{dead}": 1,
    }


async def test_a_forbidden_address_is_a_dead_letter_at_once(harness: Harness) -> None:
    await ended(harness)
    receiver = Receiver(DeliveryRefused("a private address"))
    async with sending(sender_of(harness, receiver)):
        await until_state(harness, WebhookState.DEAD)
    assert len(receiver.got) == 1


async def test_an_unforeseen_failure_leaves_the_webhook_to_its_lease(harness: Harness) -> None:
    await ended(harness)
    receiver = Receiver(RuntimeError("a bug"), 200)
    async with sending(sender_of(harness, receiver)):
        await until_state(harness, WebhookState.DELIVERED, meanwhile=lambda: harness.clock.pass_by(5))
    assert len(receiver.got) == 2


async def test_a_slow_receiver_does_not_keep_the_others_waiting(harness: Harness) -> None:
    receiver = Receiver(200)
    receiver.open.clear()
    for _ in range(5):
        await ended(harness)
    async with sending(sender_of(harness, receiver)), asyncio.timeout(30):
        while len(receiver.got) < 5:
            await asyncio.sleep(0.02)
