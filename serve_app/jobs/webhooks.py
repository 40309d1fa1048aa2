"""Webhooks: the outbox that holds them and the sender that delivers them.

A webhook is written in the transaction that ends its job. Senders lease it as runners lease jobs, and it stays in the
outbox until it is delivered or given up.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from serve_app import metrics
from serve_app.errors import DeliveryFailed, DeliveryRefused
from serve_app.jobs.job import JobResult
from serve_app.jobs.periodic import repeat
from serve_app.jobs.tables import JOBS, UNSTORED, WEBHOOKS
from serve_app.jobs.webhook_turns import Waiting, WebhookTurns
from serve_app.metrics import NO_METER, Meter
from serve_app.settings import WebhookSettings
from serve_app.store.database import Clock, Database, reads, time_of, writes

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


class WebhookState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up: a dead letter."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """`id` is the job's. `body` holds the bytes that are signed and sent."""

    id: str
    key_id: str
    url: str
    body: str
    state: WebhookState
    lease: int
    failures: int
    reason: str | None
    created_at: float
    next_at: float

    @property
    def waiting(self) -> Waiting:
        return Waiting(self.id, self.key_id, self.url)


_KEY = WEBHOOKS.c.key_id
_WAITING = (WEBHOOKS.c.id, _KEY, WEBHOOKS.c.url)
_COLUMNS = tuple(WEBHOOKS.c[field.name] for field in fields(Webhook))


class WebhookFormat(Protocol):
    """How an API dialect writes a webhook."""

    def body(self, job_id: str, result: JobResult) -> str:
        """The body that tells `result`."""
        ...

    def headers(self, request_id: str, user_id: str, body: bytes, now: float) -> dict[str, str]:
        """Headers of one delivery, such as its signature."""
        ...


class Deliverer(Protocol):
    """Posts webhooks, as `net.guarded.GuardedClient` does."""

    async def post(
        self, url: str, content: bytes, headers: dict[str, str], timeout_seconds: float, owner: str = ""
    ) -> int:
        """The status of the answer. Redirects are not followed. `owner` is the key whose webhook it is.

        Raises DeliveryFailed, DeliveryRefused.
        """
        ...


def put(connection: Connection, job_id: str, key_id: str, url: str, body: str, now: float) -> None:
    """Add a webhook that is due at once."""
    row = {"id": job_id, "key_id": key_id, "url": url, "body": body}
    connection.execute(insert(WEBHOOKS).values(**row, state=WebhookState.PENDING, created_at=now, next_at=now))


class Outbox:
    """The webhooks of the database. Each call is one transaction, and any process may make it."""

    def __init__(self, database: Database, settings: WebhookSettings, clock: Clock | None = None) -> None:
        self._database = database
        self._settings = settings
        self._now = time_of(clock)
        self._lookout = database.lookout()

    def has_news(self) -> bool:
        """Whether `take` may find more than at the last call of this. It costs next to nothing."""
        return self._lookout.has_news()

    async def take(self, turns: WebhookTurns) -> list[Webhook]:
        """Lease webhooks that are due, as `turns` has room for them and orders them.

        A lease that runs out makes its webhook due again.
        """
        if turns.room <= 0:
            return []
        is_due, is_pending = await self._look(turns)
        if not is_pending:
            self._lookout.nothing_waits()
        return await self._take(turns) if is_due else []

    @reads
    def _look(self, connection: Connection, turns: WebhookTurns) -> tuple[bool, bool]:
        """Whether a webhook is due that `turns` has room for, and whether any is pending."""
        due = select(WEBHOOKS.c.id).where(self._due_for(connection, turns))
        if connection.scalar(due.limit(1)) is not None:
            return True, True
        pending = select(WEBHOOKS.c.id).where(WEBHOOKS.c.state == WebhookState.PENDING)
        return False, connection.scalar(pending.limit(1)) is not None

    @writes
    def _take(self, connection: Connection, turns: WebhookTurns) -> list[Webhook]:
        # Of each key as many as it may have, and no more to one URL, so that none hides what is behind it.
        to_url = func.row_number().over(partition_by=(_KEY, WEBHOOKS.c.url), order_by=WEBHOOKS.c.next_at)
        by_url = select(*_WAITING, WEBHOOKS.c.next_at, to_url.label("to_url")).where(self._due_for(connection, turns))
        few = by_url.subquery()
        of_key = func.row_number().over(partition_by=few.c.key_id, order_by=few.c.next_at)
        by_key = select(few, of_key.label("of_key")).where(few.c.to_url <= self._settings.max_running_per_url)
        lines = by_key.subquery()
        firsts = select(lines.c.id, lines.c.key_id, lines.c.url).order_by(lines.c.of_key)
        firsts = firsts.where(lines.c.of_key <= self._settings.max_running_per_key)
        chosen = turns.next([Waiting(*row) for row in connection.execute(firsts)])
        due = select(*_COLUMNS).where(WEBHOOKS.c.id.in_([one.id for one in chosen]), self._due(connection))
        found = connection.execute(due.order_by(WEBHOOKS.c.next_at).with_for_update(skip_locked=True)).all()
        if found:
            lease_seconds = 2 * self._settings.timeout_seconds  # an attempt is recorded well before
            connection.execute(
                update(WEBHOOKS)
                .where(WEBHOOKS.c.id.in_([row.id for row in found]))
                .values(lease=WEBHOOKS.c.lease + 1, next_at=self._now(connection) + lease_seconds)
            )
        return [_webhook(row, lease=row.lease + 1) for row in found]

    @writes
    def delivered(self, connection: Connection, webhook: Webhook) -> None:
        """Record a delivery, even if its lease ran out meanwhile."""
        pending = (WEBHOOKS.c.id == webhook.id) & (WEBHOOKS.c.state == WebhookState.PENDING)
        done = {"state": WebhookState.DELIVERED, "ended_at": self._now(connection)}
        connection.execute(update(WEBHOOKS).where(pending).values(**done))
        unstored = select(JOBS.c.id).join_from(JOBS, UNSTORED, JOBS.c.number == UNSTORED.c.number)
        forgotten = (WEBHOOKS.c.id == webhook.id) & WEBHOOKS.c.id.in_(unstored)
        connection.execute(update(WEBHOOKS).where(forgotten).values(body=""))

    @writes
    def failed(self, connection: Connection, webhook: Webhook, reason: str, for_good: bool = False) -> WebhookState:
        """Record a failed delivery: PENDING for another try; DEAD after the last one or with `for_good`.

        Changes nothing if the lease was lost.
        """
        gives_up = for_good or webhook.failures >= self._settings.max_retries
        values: dict[str, Any] = {"failures": webhook.failures + 1, "reason": reason}
        if gives_up:
            values |= {"state": WebhookState.DEAD, "ended_at": self._now(connection)}
        else:
            values |= {"next_at": self._now(connection) + retry_delay(webhook.failures, self._settings)}
        held = (WEBHOOKS.c.id == webhook.id) & (WEBHOOKS.c.lease == webhook.lease)
        connection.execute(update(WEBHOOKS).where(held, WEBHOOKS.c.state == WebhookState.PENDING).values(**values))
        return WebhookState.DEAD if gives_up else WebhookState.PENDING

    @reads
    def list(self, connection: Connection, state: WebhookState | None = None, limit: int = 100) -> Sequence[Webhook]:
        """Newest first."""
        query = select(*_COLUMNS).order_by(WEBHOOKS.c.created_at.desc()).limit(limit)
        if state is not None:
            query = query.where(WEBHOOKS.c.state == state)
        return [_webhook(row, lease=row.lease) for row in connection.execute(query)]

    @writes
    def revive(self, connection: Connection, webhook_id: str) -> bool:
        """Make a dead letter due again with all its retries. False if there is no dead letter with that id."""
        dead = (WEBHOOKS.c.id == webhook_id) & (WEBHOOKS.c.state == WebhookState.DEAD)
        values = {"state": WebhookState.PENDING, "failures": 0, "next_at": self._now(connection), "ended_at": None}
        return connection.execute(update(WEBHOOKS).where(dead).values(**values)).rowcount == 1

    @reads
    def counts(self, connection: Connection) -> dict[WebhookState, int]:
        """Number of pending and of dead webhooks."""
        unfinished = (WebhookState.PENDING, WebhookState.DEAD)
        query = select(WEBHOOKS.c.state, func.count()).where(WEBHOOKS.c.state.in_(unfinished))
        found = {WebhookState(state): count for state, count in connection.execute(query.group_by(WEBHOOKS.c.state))}
        return {state: found.get(state, 0) for state in unfinished}

    @writes
    def sweep(self, connection: Connection) -> int:
        """Delete webhooks that ended `webhooks.kept_seconds` ago. Returns how many."""
        ended_before = self._now(connection) - self._settings.kept_seconds
        return connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.ended_at < ended_before)).rowcount

    def _due(self, connection: Connection) -> Any:
        return (WEBHOOKS.c.state == WebhookState.PENDING) & (WEBHOOKS.c.next_at <= self._now(connection))

    def _due_for(self, connection: Connection, turns: WebhookTurns) -> Any:
        is_free = _KEY.not_in(turns.busy_keys) & WEBHOOKS.c.url.not_in(turns.busy_urls)
        return self._due(connection) & is_free


class WebhookSender:
    """Delivers webhooks. Several processes may run one, since each webhook is leased while it is sent."""

    def __init__(
        self,
        outbox: Outbox,
        deliverer: Deliverer,
        webhook_format: WebhookFormat,
        settings: WebhookSettings,
        meter: Meter = NO_METER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._deliverer = deliverer
        self._format = webhook_format
        self._settings = settings
        self._meter = meter
        self._clock = clock
        self._turns = WebhookTurns(settings)
        self._sending: dict[asyncio.Task[None], Webhook] = {}
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled. A delivery that is cancelled is repeated once its lease runs out."""
        try:
            await repeat("taking webhooks", self._take_some, _POLL_SECONDS, self._has_room)
        finally:
            for task in self._sending:
                task.cancel()

    async def _take_some(self) -> bool:
        if not self._outbox.has_news():  # twice a second
            return False
        for webhook in await self._outbox.take(self._turns):
            self._turns.begin(webhook.waiting)
            task = asyncio.create_task(self.deliver(webhook))
            self._sending[task] = webhook
            task.add_done_callback(self._sent)
        return False

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._turns.end(self._sending.pop(task).waiting)
        self._has_room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a delivery was not recorded: the webhook is sent again once its lease ends", exc_info=error)

    async def deliver(self, webhook: Webhook) -> None:
        """Make one attempt and record it."""
        body = webhook.body.encode()
        headers = {"Content-Type": "application/json"}
        headers |= self._format.headers(webhook.id, webhook.key_id, body, self._clock())
        try:
            timeout_seconds = self._settings.timeout_seconds
            status = await self._deliverer.post(webhook.url, body, headers, timeout_seconds, webhook.key_id)
        except DeliveryFailed as error:
            await self._failed(webhook, str(error), for_good=isinstance(error, DeliveryRefused))
            return
        if 200 <= status < 300:
            await self._outbox.delivered(webhook)
            self._meter.count(metrics.WEBHOOK_DELIVERIES, outcome="delivered")
        else:
            await self._failed(webhook, f"the receiver answered with status {status}, not 2xx", for_good=False)

    async def _failed(self, webhook: Webhook, reason: str, for_good: bool) -> None:
        state = await self._outbox.failed(webhook, reason, for_good)
        outcome = "dead" if state is WebhookState.DEAD else "failed"
        self._meter.count(metrics.WEBHOOK_DELIVERIES, outcome=outcome)
        _log.warning("webhook %s: delivery %d %s", webhook.id, webhook.failures + 1, outcome)


def retry_delay(failures: int, settings: WebhookSettings) -> float:
    """Seconds until the next try, after `failures` failed ones and one more."""
    return min(settings.first_delay_seconds * 2.0**failures, settings.max_delay_seconds)


def _webhook(row: Row[Any], lease: int) -> Webhook:
    return Webhook(**row._asdict() | {"state": WebhookState(row.state), "lease": lease})
