"""`csm-serve webhooks`, on the database that the environment names."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve_app.cli.main import app
from serve_app.jobs.job import JobResult, NewJob
from serve_app.jobs.queue import JobQueue
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhook_turns import WebhookTurns
from serve_app.jobs.webhooks import Outbox, WebhookState
from serve_app.settings import Settings
from serve_app.store.database import Database
from tests.support.jobs_harness import PlainWebhookFormat


def run(*argv: str) -> Result:
    return CliRunner().invoke(app, ["webhooks", *argv])


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("CSM_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("CSM_DATABASE__URL", raising=False)
    database = Database.open(Settings().database_url)
    yield database
    database.close()


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, Settings().webhooks)


async def ended(database: Database, text: str) -> str:
    queue = JobQueue(database, Settings().jobs, PlainWebhookFormat())
    leases = JobLeases(database, Settings().jobs, PlainWebhookFormat())
    job = await queue.submit(NewJob("e", "k", {"text": text}, webhook_url=f"https://example.com/{text}"))
    leased = await leases.lease("runner")
    assert leased is not None
    await leases.finish(leased, JobResult({}))
    return job.id


@pytest.fixture
def dead_letter(database: Database, outbox: Outbox) -> str:
    """Beside a webhook that waits."""

    async def give_up() -> str:
        dead = await ended(database, "dead")
        (webhook,) = await outbox.take(WebhookTurns(Settings().webhooks))
        await outbox.failed(webhook, "the receiver answered with status 500, not 2xx", for_good=True)
        await ended(database, "waits")
        return dead

    return asyncio.run(give_up())


def test_dead_letters_are_listed_with_their_reason(dead_letter: str) -> None:
    head, line = run("list", "--dead").stdout.splitlines()
    assert head.split() == ["ID", "STATE", "FAILED", "CREATED", "NEXT", "URL", "REASON"]
    assert line.startswith(f"{dead_letter}  dead ")
    assert line.endswith("https://example.com/dead  the receiver answered with status 500, not 2xx")


def test_all_are_listed_the_latest_first(dead_letter: str) -> None:
    _, first, second = run("list").stdout.splitlines()
    assert "pending" in first and "example.com/waits" in first
    assert second.startswith(dead_letter)


def test_a_dead_letter_is_sent_again(dead_letter: str, outbox: Outbox) -> None:
    assert run("retry", dead_letter).exit_code == 0
    assert asyncio.run(outbox.counts())[WebhookState.DEAD] == 0
    assert len(asyncio.run(outbox.take(WebhookTurns(Settings().webhooks)))) == 2


def test_what_is_no_dead_letter_is_not(dead_letter: str) -> None:
    result = run("retry", "nobody")
    assert result.exit_code != 0 and "no dead letter" in result.output.replace("\n", " ")
