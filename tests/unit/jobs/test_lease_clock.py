"""Leases follow the database's clock: a machine whose own is wrong takes no job from a runner that lives."""

import time

import pytest

from serve_app.jobs.queue import JobQueue
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhook_turns import WebhookTurns
from serve_app.jobs.webhooks import Outbox, put
from serve_app.settings import JobSettings, WebhookSettings
from serve_app.store.database import Database, database_time
from tests.support.jobs_harness import PlainWebhookFormat, new_job


@pytest.fixture
def shared(database: Database) -> Database:
    if database.is_sqlite:
        pytest.skip("SQLite's processes share a machine, and so its clock")
    return database


async def test_a_clock_that_is_ahead_takes_no_lease(shared: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, leases = (kind(shared, JobSettings(), PlainWebhookFormat()) for kind in (JobQueue, JobLeases))
    await queue.submit(new_job())
    held = await leases.lease("lives")
    assert held is not None
    with shared.writing() as connection:
        put(connection, "w", "k", "https://a/", "{}", database_time(connection))
    outbox = Outbox(shared, WebhookSettings())
    assert len(await outbox.take(WebhookTurns(WebhookSettings()))) == 1
    ahead = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert (await leases.expire()).lost == 0
    assert await leases.lease("ahead") is None
    assert await outbox.take(WebhookTurns(WebhookSettings())) == []
    assert await leases.heartbeat([held]) == set()


async def test_the_clock_of_sqlite_is_the_machines(database: Database) -> None:
    with database.reading() as connection:
        assert database_time(connection) == pytest.approx(time.time(), abs=5)
