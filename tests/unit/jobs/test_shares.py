"""Keys share the runners: one that submits much waits for itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from serve_app.errors import LimitReached
from serve_app.jobs.job import JobState
from serve_app.jobs.tables import INPUTS, JOB_FILES
from serve_app.jobs.webhook_turns import WebhookTurns
from serve_app.jobs.webhooks import Webhook, put
from serve_app.store.database import Database
from serve_app.store.tables import FILES
from tests.support.jobs_harness import DONE, Clock, Harness, new_job


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    yield database
    database.close()


@pytest.fixture
def harness(database: Database) -> Harness:
    return Harness(database, Clock())


async def order(harness: Harness, number: int) -> list[str]:
    """The texts of the next jobs."""
    return [(await harness.leased()).input["text"] for _ in range(number)]


async def test_a_key_with_one_job_does_not_wait_for_one_with_many(harness: Harness) -> None:
    for number in range(6):
        await harness.submitted(f"a{number}", key_id="a")
    first = await order(harness, 2)
    late = await harness.submitted("b0", key_id="b")
    assert (await harness.queue.status(late, "b")).position == 0
    assert first + await order(harness, 3) == ["a0", "a1", "b0", "a2", "a3"]


async def test_shares_are_weighted_by_the_audio_that_jobs_may_make(harness: Harness) -> None:
    for number in range(3):
        await harness.submitted(f"long{number}", key_id="a", cost_seconds=100.0)
    for number in range(6):
        await harness.submitted(f"short{number}", key_id="b", cost_seconds=40.0)
    assert await order(harness, 6) == ["long0", "short0", "short1", "short2", "long1", "short3"]


async def test_a_key_that_was_silent_has_not_saved_up(harness: Harness) -> None:
    await harness.submitted("b0", key_id="b")
    for number in range(4):
        await harness.submitted(f"a{number}", key_id="a")
    await order(harness, 4)
    for number in range(1, 4):
        await harness.submitted(f"b{number}", key_id="b")
    await harness.submitted("a4", key_id="a")
    assert sorted(await order(harness, 3)) == ["a3", "b1", "b2"]


async def test_a_key_may_not_fill_the_queue(harness: Harness) -> None:
    small = harness.with_settings(max_queued_per_key=2)
    for number in range(2):
        await small.submitted(f"{number}", key_id="a")
    with pytest.raises(LimitReached, match=r"jobs of this key are waiting, the limit is jobs.max_queued_per_key"):
        await small.queue.submit(new_job("3", key_id="a"))
    await small.submitted("other", key_id="b")


def put_webhooks(harness: Harness, key: str, number: int, url: str) -> None:
    """Due now, and before those that are put later. `url` may hold `{}` for the number of each."""
    with harness.database.writing() as connection:
        for each in range(number):
            put(connection, f"{key}{each}", key, url.format(each), "{}", harness.clock.now)
    harness.clock.pass_by(0.001)


async def begun(harness: Harness, turns: WebhookTurns) -> list[Webhook]:
    """What a sender takes, and delivers from now on."""
    taken = await harness.outbox.take(turns)
    for webhook in taken:
        turns.begin(webhook.waiting)
    return taken


async def test_hanging_receivers_of_one_key_leave_room_for_others(harness: Harness) -> None:
    turns = WebhookTurns(harness.webhooks)
    put_webhooks(harness, "a", 40, "https://a/{}")
    put_webhooks(harness, "b", 1, "https://b/")
    taken = await begun(harness, turns)
    assert sum(webhook.key_id == "a" for webhook in taken) == harness.webhooks.max_running_per_key
    assert any(webhook.key_id == "b" for webhook in taken)
    assert await harness.outbox.take(turns) == []


async def test_hanging_receivers_behind_one_url_leave_room_too(harness: Harness) -> None:
    turns = WebhookTurns(harness.webhooks)
    for number in range(40):
        put_webhooks(harness, f"k{number}", 1, "https://a/")
    assert len(await begun(harness, turns)) == harness.webhooks.max_running_per_url
    assert await harness.outbox.take(turns) == []


async def test_one_webhook_is_next_where_others_keys_fill_all_places(harness: Harness) -> None:
    """The bound of a key leaves it no place once two floods have all. The order does, at the next that is free."""
    turns = WebhookTurns(harness.webhooks)
    for key in ("a", "b"):
        put_webhooks(harness, key, 40, f"https://{key}/{{}}")
    taken = await begun(harness, turns)
    assert len(taken) == harness.webhooks.max_running
    put_webhooks(harness, "c", 1, "https://c/")
    turns.end(taken[0].waiting)
    assert [webhook.key_id for webhook in await begun(harness, turns)] == ["c"]
    turns.end(taken[1].waiting)
    turns.end(taken[2].waiting)
    put_webhooks(harness, "d", 40, "https://d/{}")
    assert [webhook.key_id for webhook in await begun(harness, turns)] == ["d", "d"]


async def test_one_webhook_does_not_wait_for_anothers_keys_to_the_same_receiver(harness: Harness) -> None:
    put_webhooks(harness, "a", 40, "https://shared/")
    put_webhooks(harness, "b", 1, "https://shared/")
    assert [webhook.key_id for webhook in await harness.webhooks_due(2)] == ["a", "b"]


def stored(database: Database, file_id: str, expires_at: float) -> None:
    row = {"id": file_id, "upload_id": file_id, "name": "context", "content_type": "a/b", "size": 1, "owner": "k"}
    with database.writing() as connection:
        connection.execute(insert(FILES).values(**row, created_at=0.0, expires_at=expires_at))


def expiry(database: Database, file_id: str) -> float:
    with database.reading() as connection:
        return connection.scalars(select(FILES.c.expires_at).where(FILES.c.id == file_id)).one()


class NoFiles:
    async def delete(self, file_id: str) -> None:
        raise AssertionError("no job is old enough to be deleted")


@pytest.mark.parametrize("end", ["finished", "cancelled", "not started"])
async def test_a_clip_that_was_stored_for_a_job_goes_with_its_end(harness: Harness, end: str) -> None:
    far = harness.clock.now + 3650 * 86_400
    stored(harness.database, "voice", far)
    job_id = await harness.submitted(file_ids=("voice",), start_timeout_seconds=3600.0)
    if end == "finished":
        await harness.leases.finish(await harness.leased(), DONE)
    elif end == "cancelled":
        await harness.queue.cancel(job_id, "key-1")
    else:
        harness.clock.pass_by(3601)
        await harness.leases.expire()
        assert (await harness.queue.again(job_id, "key-1")).file_ids == ("voice",)
        harness.clock.pass_by(3601)  # until then it can be run again
        await harness.queue.sweep(NoFiles())
    assert expiry(harness.database, "voice") <= harness.clock.now + 60
    with harness.database.reading() as connection:
        assert not connection.execute(select(INPUTS.c.number)).all()
        assert not connection.execute(select(JOB_FILES.c.file_id)).all()


async def test_a_clip_that_another_job_needs_stays(harness: Harness) -> None:
    far = harness.clock.now + 86_400
    stored(harness.database, "voice", far)
    for name in ("one", "two"):
        await harness.submitted(name, file_ids=("voice",))
    await harness.leases.finish(await harness.leased(), DONE)
    assert expiry(harness.database, "voice") == far
    await harness.leases.finish(await harness.leased(), DONE)
    assert expiry(harness.database, "voice") <= harness.clock.now + 60


async def test_tables_of_an_older_release_get_what_they_lack(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    database = Database.open(url)
    with database.writing() as connection:
        for index in ("jobs_in_turns", "jobs_in_turns_of_application"):
            connection.execute(text(f"DROP INDEX {index}"))
        for column in ("turn", "application"):
            connection.execute(text(f"ALTER TABLE jobs DROP COLUMN {column}"))
    database.close()
    database = Database.open(url)
    harness = Harness(database, Clock())
    job_id = await harness.submitted()
    assert (await harness.leased()).id == job_id
    assert (await harness.queue.get(job_id, "key-1")).state is JobState.RUNNING
    database.close()
