"""Runners and the database that stand still for a while, as under a debugger, a snapshot or a full disk: each job that
was accepted ends once. With `make test-partitions`, which pauses them for longer."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from serve_app.api.fal.webhook import FalWebhookFormat
from serve_app.store.database import Database
from serve_app.store.secrets import Secrets
from tests.integration.test_job_kills import RUNNERS, check, undelivered, until_at_work
from tests.support.job_processes import Place, Processes, own_seed
from tests.support.postgres_server import PostgresServer
from tests.support.unreliable_receiver import Receiver, receiving

NUM_JOBS = 30
LONG = [pytest.mark.partitions, pytest.mark.timeout(600)]
SECONDS = [2, pytest.param(5, marks=LONG), pytest.param(40, marks=LONG)]
"""The leases of these runners last one second, so two are what sixty are to a server."""


@contextmanager
def paused(processes: list[psutil.Process]) -> Iterator[None]:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def run(url: str, folder: Path, seconds: float, victims: Callable[[Processes], list[psutil.Process]]) -> None:
    database = Database.open(url)
    receiver = Receiver(FalWebhookFormat.open(Secrets(database)).jwks(), random.Random(own_seed()))
    texts = [f"text-{n}" for n in range(NUM_JOBS)]
    with receiving(receiver):
        place = Place(url, receiver.url, folder / "accepted")
        processes = Processes(place, RUNNERS)
        deadline = time.monotonic() + 200 + seconds
        try:
            processes.keep_taking_in(texts)
            until_at_work(database, deadline)
            with paused(victims(processes)):
                time.sleep(seconds)
            while left := undelivered(database, NUM_JOBS):
                assert time.monotonic() < deadline, f"{left} jobs were not told of in time"
                processes.keep_taking_in(texts)
                time.sleep(0.05)
        finally:
            processes.stop()
    check(database, place, receiver, texts)
    database.close()


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=LONG)])
def test_a_runner_that_stands_still_ends_no_job_twice(
    kind: str, seconds: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What it did not end, others do. When it goes on, its leases are gone, and so are its writes."""
    url = f"sqlite:///{tmp_path}/state.db"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    run(url, tmp_path, seconds, lambda processes: [psutil.Process(processes.runners[0].pid)])


@pytest.mark.parametrize("seconds", SECONDS)
def test_a_database_that_stands_still_loses_no_job(postgres: PostgresServer, seconds: int, tmp_path: Path) -> None:
    def whole_database(_: Processes) -> list[psutil.Process]:
        [listening] = [
            c.pid for c in psutil.net_connections("tcp") if c.laddr.port == postgres.port and c.status == "LISTEN"
        ]
        server = psutil.Process(listening)
        return [server, *server.children()]

    run(postgres.new_database(), tmp_path, seconds, whole_database)
