"""Webhooks that are to be delivered: written with the job's result, leased like jobs, kept until they are delivered
or given up."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from serve_app.jobs.job import JobResult
from serve_app.jobs.tables import JOBS, UNSTORED, WEBHOOKS
from serve_app.settings import WebhookSettings
from serve_app.store.database import Database


class WebhookState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up: a dead letter."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One to be delivered, or to be shown. `body` is what is signed and sent, byte for byte."""

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


def put(connection: Connection, job_id: str, key_id: str, url: str, result: JobResult, now: float) -> None:
    """Have a job's end told to `url`; at once, as soon as somebody takes it."""
    connection.execute(
        insert(WEBHOOKS).values(
            id=job_id,
            key_id=key_id,
            url=url,
            body=json.dumps(_message(job_id, result), ensure_ascii=False),
            state=WebhookState.PENDING,
            created_at=now,
            next_at=now,
        )
    )


def _message(job_id: str, result: JobResult) -> dict[str, Any]:
    """fal's shape; both ids are one here, where nothing stands between."""
    message: dict[str, Any] = {"request_id": job_id, "gateway_request_id": job_id}
    if result.is_success:
        return message | {"status": "OK", "error": None, "payload": result.body}
    return message | {
        "status": "ERROR",
        "error": f"Invalid status code: {result.status_code}",
        "payload": result.body,
    }


def is_due(connection: Connection, now: float) -> bool:
    """Whether `take` would find one, without its transaction."""
    return connection.scalar(select(WEBHOOKS.c.id).where(_due(now)).limit(1)) is not None


def take(connection: Connection, limit: int, now: float, lease_seconds: float) -> list[Webhook]:
    """Lease up to `limit` of them: whoever takes them and dies is followed by another after `lease_seconds`."""
    found = connection.execute(
        select(WEBHOOKS).where(_due(now)).order_by(WEBHOOKS.c.next_at).limit(limit).with_for_update(skip_locked=True)
    ).all()
    if found:
        connection.execute(
            update(WEBHOOKS)
            .where(WEBHOOKS.c.id.in_([row.id for row in found]))
            .values(lease=WEBHOOKS.c.lease + 1, next_at=now + lease_seconds)
        )
    return [_webhook(row, lease=row.lease + 1) for row in found]


def delivered(connection: Connection, webhook: Webhook, now: float) -> bool:
    """Also where the lease ran out meanwhile: what was delivered is delivered."""
    pending = (WEBHOOKS.c.id == webhook.id) & (WEBHOOKS.c.state == WebhookState.PENDING)
    done = connection.execute(update(WEBHOOKS).where(pending).values(state=WebhookState.DELIVERED, ended_at=now))
    # Nobody needs it again, and of some jobs nothing is to be kept.
    unstored = select(JOBS.c.id).join_from(JOBS, UNSTORED, JOBS.c.number == UNSTORED.c.number)
    connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == webhook.id, WEBHOOKS.c.id.in_(unstored)).values(body=""))
    return done.rowcount == 1


def failed(
    connection: Connection, webhook: Webhook, reason: str, now: float, settings: WebhookSettings, for_good: bool = False
) -> WebhookState:
    """Have it delivered again later, or give it up after `webhooks.max_retries`; a lost lease says nothing."""
    gives_up = for_good or webhook.failures >= settings.max_retries
    values: dict[str, Any] = {"failures": webhook.failures + 1, "reason": reason}
    if gives_up:
        values |= {"state": WebhookState.DEAD, "ended_at": now}
    else:
        values |= {"next_at": now + retry_delay(webhook.failures, settings)}
    held = (WEBHOOKS.c.id == webhook.id) & (WEBHOOKS.c.lease == webhook.lease)
    connection.execute(update(WEBHOOKS).where(held, WEBHOOKS.c.state == WebhookState.PENDING).values(**values))
    return WebhookState.DEAD if gives_up else WebhookState.PENDING


def retry_delay(failures: int, settings: WebhookSettings) -> float:
    """Seconds before the retry that follows `failures` and one more."""
    return min(settings.first_delay_seconds * 2.0**failures, settings.max_delay_seconds)


def list_webhooks(connection: Connection, state: WebhookState | None, limit: int) -> Sequence[Webhook]:
    """The latest ones first."""
    query = select(WEBHOOKS).order_by(WEBHOOKS.c.created_at.desc()).limit(limit)
    if state is not None:
        query = query.where(WEBHOOKS.c.state == state)
    return [_webhook(row, lease=row.lease) for row in connection.execute(query)]


def revive(connection: Connection, webhook_id: str, now: float) -> bool:
    """Have a dead letter delivered again, with all its retries; False where there is none of that id."""
    dead = (WEBHOOKS.c.id == webhook_id) & (WEBHOOKS.c.state == WebhookState.DEAD)
    values = {"state": WebhookState.PENDING, "failures": 0, "next_at": now, "ended_at": None}
    return connection.execute(update(WEBHOOKS).where(dead).values(**values)).rowcount == 1


def counts(connection: Connection) -> dict[WebhookState, int]:
    """Of those that are pending or dead."""
    unfinished = (WebhookState.PENDING, WebhookState.DEAD)
    query = select(WEBHOOKS.c.state, func.count()).where(WEBHOOKS.c.state.in_(unfinished)).group_by(WEBHOOKS.c.state)
    found = {WebhookState(state): count for state, count in connection.execute(query)}
    return {state: found.get(state, 0) for state in unfinished}


def sweep(connection: Connection, ended_before: float) -> int:
    return connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.ended_at < ended_before)).rowcount


class Outbox:
    """The same for event loops, each in one transaction."""

    def __init__(self, database: Database, settings: WebhookSettings, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def take(self, limit: int) -> list[Webhook]:
        """Those that are due, to be delivered by the caller alone for now."""
        if not await self._database.read(lambda c: is_due(c, self._clock())):
            return []
        lease_seconds = 2 * self._settings.timeout_seconds  # an attempt has ended, and was recorded, well before
        return await self._database.write(lambda c: take(c, limit, self._clock(), lease_seconds))

    async def delivered(self, webhook: Webhook) -> None:
        await self._database.write(lambda c: delivered(c, webhook, self._clock()))

    async def failed(self, webhook: Webhook, reason: str, for_good: bool = False) -> WebhookState:
        """What becomes of it: PENDING for another try, or DEAD after the last, or where trying again is no use."""
        return await self._database.write(lambda c: failed(c, webhook, reason, self._clock(), self._settings, for_good))

    async def list(self, state: WebhookState | None = None, limit: int = 100) -> Sequence[Webhook]:
        """The latest ones first."""
        return await self._database.read(lambda c: list_webhooks(c, state, limit))

    async def revive(self, webhook_id: str) -> bool:
        """Have a dead letter delivered again, with all its retries; False where there is none of that id."""
        return await self._database.write(lambda c: revive(c, webhook_id, self._clock()))

    async def counts(self) -> dict[WebhookState, int]:
        """Of those that are pending or dead."""
        return await self._database.read(counts)

    async def sweep(self) -> int:
        """Forget those that ended `webhooks.kept_seconds` ago."""
        return await self._database.write(lambda c: sweep(c, self._clock() - self._settings.kept_seconds))


def _due(now: float) -> Any:
    return (WEBHOOKS.c.state == WebhookState.PENDING) & (WEBHOOKS.c.next_at <= now)


def _webhook(row: Any, lease: int) -> Webhook:
    return Webhook(
        id=row.id,
        key_id=row.key_id,
        url=row.url,
        body=row.body,
        state=WebhookState(row.state),
        lease=lease,
        failures=row.failures,
        reason=row.reason,
        created_at=row.created_at,
        next_at=row.next_at,
    )
