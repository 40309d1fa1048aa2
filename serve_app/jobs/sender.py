"""Delivers the webhooks of an outbox."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from serve_app import metrics
from serve_app.errors import DeliveryFailed, DeliveryRefused
from serve_app.jobs.outbox import Outbox, Webhook, WebhookState
from serve_app.jobs.periodic import repeat
from serve_app.jobs.webhook import WebhookSigner
from serve_app.metrics import NO_METER, Meter
from serve_app.settings import WebhookSettings

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


class Deliverer(Protocol):
    """`net.guarded.GuardedClient` is one."""

    async def post(self, url: str, content: bytes, headers: dict[str, str], timeout_seconds: float) -> int:
        """The status of the answer; redirects are not followed. Raises DeliveryFailed, DeliveryRefused."""
        ...


class WebhookSender:
    """May run in several processes: each webhook is leased while it is sent."""

    def __init__(
        self,
        outbox: Outbox,
        deliverer: Deliverer,
        signer: WebhookSigner,
        settings: WebhookSettings,
        meter: Meter = NO_METER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._deliverer = deliverer
        self._signer = signer
        self._settings = settings
        self._meter = meter
        self._clock = clock
        self._sending: set[asyncio.Task[None]] = set()
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; what is being sent then is sent again once its lease is over."""
        try:
            await repeat("taking webhooks", self._take_some, _POLL_SECONDS, self._has_room)
        finally:
            for task in self._sending:
                task.cancel()

    async def _take_some(self) -> bool:
        room = self._settings.max_running - len(self._sending)
        webhooks = await self._outbox.take(room) if room > 0 else []
        for webhook in webhooks:
            task = asyncio.create_task(self.deliver(webhook))
            self._sending.add(task)
            task.add_done_callback(self._sent)
        return False

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._has_room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a webhook was not recorded: it is sent again once its lease is over", exc_info=error)

    async def deliver(self, webhook: Webhook) -> None:
        """One attempt, recorded."""
        body = webhook.body.encode()
        headers = {"Content-Type": "application/json"}
        headers |= self._signer.headers(webhook.id, webhook.key_id, body, self._clock())
        try:
            status = await self._deliverer.post(webhook.url, body, headers, self._settings.timeout_seconds)
        except DeliveryFailed as error:
            await self._failed(webhook, str(error), for_good=isinstance(error, DeliveryRefused))
            return
        if 200 <= status < 300:
            await self._outbox.delivered(webhook)
            self._meter.count(metrics.WEBHOOK_DELIVERIES, outcome="delivered")
        else:
            await self._failed(webhook, f"it answered with status {status}, not 2xx", for_good=False)

    async def _failed(self, webhook: Webhook, reason: str, for_good: bool) -> None:
        state = await self._outbox.failed(webhook, reason, for_good)
        outcome = "dead" if state is WebhookState.DEAD else "failed"
        self._meter.count(metrics.WEBHOOK_DELIVERIES, outcome=outcome)
        _log.warning("webhook %s: delivery %d %s", webhook.id, webhook.failures + 1, outcome)
