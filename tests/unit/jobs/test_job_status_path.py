"""Asking how far a job is costs one or two indexed statements: no transaction that writes, no input, no output."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from serve_app.jobs.job import LeasedJob, LogLine
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhook_turns import WebhookTurns
from serve_app.jobs.webhooks import Outbox, Webhook
from serve_app.settings.service import WebhookSettings
from serve_app.store.database import Database
from tests.support.jobs_harness import DONE, KEY, Harness, new_job


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Each one that reaches the database, and what its transactions begin with."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    with database.reading() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def without_begin(seen: list[str]) -> list[str]:
    return [statement for statement in seen if statement != "BEGIN DEFERRED"]


@pytest.mark.parametrize(("logs_after", "most"), [(None, 1), (0, 2)], ids=["plain", "with-logs"])
async def test_a_status_only_reads_and_reads_little(harness: Harness, logs_after: int | None, most: int) -> None:
    ids = [await harness.submitted(str(n)) for n in range(3)]
    leased = await harness.leased()
    await harness.leases.log(leased, [LogLine(1.0, "INFO", "one")])
    await harness.leases.finish(leased, DONE)
    await harness.leased()
    for job_id in ids:  # completed, running, queued
        with statements(harness.database) as seen:
            await harness.queue.status(job_id, KEY, logs_after)
        assert len(without_begin(seen)) == most
        for statement in without_begin(seen):
            assert statement.startswith("SELECT") and "FOR UPDATE" not in statement
            assert "job_inputs" not in statement and "job_results" not in statement
            assert "webhook" not in statement and "input" not in statement and "body" not in statement


async def test_an_idle_runner_opens_no_writing_transaction(harness: Harness) -> None:
    with statements(harness.database) as seen:
        assert await harness.leases.lease("runner-1") is None
        await harness.leases.expire()
        assert await harness.webhooks_due(5) == []
    assert all(statement.startswith("SELECT") for statement in without_begin(seen)), seen


async def test_where_nothing_waits_an_idle_runner_and_sender_do_not_look_again(harness: Harness) -> None:
    """On SQLite: a database of another kind may have changed at any time."""
    leases, outbox = harness.leases, harness.outbox
    assert await looked(leases, outbox) == ([], [])
    await asyncio.sleep(1.1)
    assert [leases.has_news(), outbox.has_news()] == [not harness.database.is_sqlite] * 2


async def test_what_waits_for_a_time_is_looked_for_although_nobody_writes(harness: Harness) -> None:
    leases, outbox = harness.leases, harness.outbox
    await harness.submitted(webhook_url="https://example.com/hook")
    await leases.finish(await harness.leased(), DONE)
    await outbox.failed((await harness.webhooks_due(1))[0], "no answer")
    await harness.submitted()
    await leases.refuse(await harness.leased(), "busy", 3600)
    assert await looked(leases, outbox) == ([], [])
    await asyncio.sleep(1.1)
    assert leases.has_news() and outbox.has_news()


async def looked(leases: JobLeases, outbox: Outbox) -> tuple[list[LeasedJob], list[Webhook]]:
    """What is found after news."""
    assert leases.has_news() and outbox.has_news()
    job = await leases.lease("runner-1")
    return ([] if job is None else [job]), await outbox.take(WebhookTurns(WebhookSettings()))


async def test_a_position_is_counted_in_an_index(harness: Harness) -> None:
    if not harness.database.is_sqlite:
        pytest.skip("PostgreSQL reads so small a table whole, whatever its indexes are")
    job_id = (await harness.queue.submit(new_job())).id
    with statements(harness.database) as seen:
        await harness.queue.status(job_id, KEY)
    query = without_begin(seen)[0]
    with harness.database.reading() as connection:
        values = tuple("x" * query.count("?"))
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)]
    assert any("COVERING INDEX jobs_in_turn" in step for step in plan), plan
    assert not any(step.startswith("SCAN") for step in plan), plan


async def test_taking_the_next_job_is_an_index_search_on_a_long_queue(harness: Harness) -> None:
    """On PostgreSQL, with enough rows for its planner to care."""
    if harness.database.is_sqlite:
        pytest.skip("the plan of SQLite is looked at above")
    await harness.submitted()
    with harness.database.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO jobs (id, endpoint, key_id, state, rank, created_at, available_at, start_by, attempt, "
                "failures, max_attempts, cancel_requested, fingerprint) "
                "SELECT 'x' || n, 'e', 'k', 'completed', 0, 0, 0, 0, 1, 0, 3, false, 'f' "
                "FROM generate_series(1, 20000) n"
            )
        )
        connection.execute(text("ANALYZE jobs"))
        plan = connection.scalars(
            text(
                "EXPLAIN SELECT count(*) FROM jobs WHERE state = 'queued' AND (rank, number) < (0, 30000)",
            )
        ).all()
    assert "jobs_in_turn" in "\n".join(plan)
