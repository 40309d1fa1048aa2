"""Processes are killed at random moments while jobs are submitted and run: each job that was accepted ends with one
result, and with one webhook, however often that is delivered. On SQLite and on a real PostgreSQL."""

import json
import random
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from serve_app.api.fal.webhook import FalWebhookFormat
from serve_app.jobs.job import JobState
from serve_app.jobs.tables import JOBS, RESULTS, WEBHOOKS
from serve_app.jobs.webhooks import WebhookState
from serve_app.store.database import Database
from serve_app.store.secrets import Secrets
from tests.support.job_processes import KEY, Place, Processes, answers, own_seed, result_of
from tests.support.unreliable_receiver import Receiver, receiving

RUNNERS = 3


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    return request.getfixturevalue("postgres").new_database()


def undelivered(database: Database, num_jobs: int) -> int:
    delivered = select(func.count()).where(WEBHOOKS.c.state == WebhookState.DELIVERED)
    with database.reading() as connection:
        return num_jobs - (connection.scalar(delivered) or 0)


def until_at_work(database: Database, deadline: float) -> None:
    running = select(func.count()).where(JOBS.c.state == JobState.RUNNING)
    while True:
        with database.reading() as connection:
            if connection.scalar(running):
                return
        assert time.monotonic() < deadline, "nobody takes a job"
        time.sleep(0.005)


def kill_something(processes: Processes, dice: random.Random) -> None:
    roll = dice.random()
    if roll < 0.15:
        processes.kill_all()
    elif roll < 0.4:
        processes.kill_ingress()
    else:
        processes.kill_runner(dice.randrange(RUNNERS))


def check(database: Database, place: Place, receiver: Receiver, texts: list[str]) -> None:
    """The books of clients, server and receiver agree."""
    known = answers(place)
    assert sorted(known) == sorted(texts)
    assert len(set(known.values())) == len(texts), "two requests were told one job"
    with database.reading() as connection:
        jobs = {row.id: row for row in connection.execute(select(JOBS))}
        results = {row.number: row for row in connection.execute(select(RESULTS))}
        webhooks = {row.id: row for row in connection.execute(select(WEBHOOKS))}
    assert set(known.values()) == set(jobs), "a request that was sent again made another job, or one was lost"
    assert set(jobs) == set(webhooks) == set(receiver.bodies)
    for text, job_id in known.items():
        job = jobs[job_id]
        assert job.state == JobState.COMPLETED and job.key_id == KEY
        assert json.loads(results[job.number].body) == result_of(text).output
        (body,) = set(receiver.bodies[job_id])
        assert body.decode() == webhooks[job_id].body
        assert json.loads(body)["payload"] == result_of(text).output
    assert len(results) == len(jobs) and receiver.forged == 0


def run(database_url: str, tmp_path: Path, num_jobs: int, num_kills: int) -> None:
    dice = random.Random(own_seed())
    database = Database.open(database_url)
    receiver = Receiver(FalWebhookFormat.open(Secrets(database)).jwks(), random.Random(own_seed()))
    texts = [f"text-{n}" for n in range(num_jobs)]
    with receiving(receiver):
        place = Place(database_url, receiver.url, tmp_path / "accepted")
        processes = Processes(place, RUNNERS)
        deadline = time.monotonic() + 60 + 5 * num_kills

        def until_delivered(num_jobs: int) -> None:
            while left := undelivered(database, num_jobs):
                assert time.monotonic() < deadline, f"{left} jobs were not told of in time"
                processes.keep_taking_in(texts[:num_jobs])
                time.sleep(0.05)

        try:
            processes.keep_taking_in(texts[:1])
            until_delivered(1)
            # There is work for as long as there are deaths.
            for kill in range(num_kills):
                processes.keep_taking_in(texts[: (kill + 1) * num_jobs // num_kills])
                if kill == 0:
                    until_at_work(database, deadline)
                    processes.kill_all()  # so that somebody dies at work, however slow this machine is
                    continue
                time.sleep(dice.uniform(0.05, 0.5))
                kill_something(processes, dice)
            until_delivered(num_jobs)
        finally:
            processes.stop()
    check(database, place, receiver, texts)
    with database.reading() as connection:
        attempts = list(connection.scalars(select(JOBS.c.attempt)))
    assert sum(attempts) > num_jobs, "nobody died at work"
    database.close()
    num_deliveries = sum(map(len, receiver.bodies.values()))
    sys.stdout.write(f"\n{num_kills} kills: {num_jobs} jobs, {sum(attempts)} attempts, {num_deliveries} deliveries\n")


def test_jobs_outlive_whoever_runs_them(database_url: str, tmp_path: Path) -> None:
    run(database_url, tmp_path, num_jobs=60, num_kills=8)


@pytest.mark.job_kills
@pytest.mark.timeout(3600)
def test_jobs_outlive_many_deaths(database_url: str, tmp_path: Path) -> None:
    run(database_url, tmp_path, num_jobs=1500, num_kills=250)
