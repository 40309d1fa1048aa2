"""Processes that may be killed at any moment: those that take jobs in, and those that run them. Nothing of Ray."""

import asyncio
import multiprocessing
import os
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from serve_app.api.fal.webhook import FalWebhookFormat
from serve_app.jobs.job import JobResult, LeasedJob, NewJob
from serve_app.jobs.queue import JobQueue
from serve_app.jobs.runner import JobRunner, Progress
from serve_app.jobs.service import JobService
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhooks import Outbox, WebhookSender
from serve_app.net.guarded import GuardedClient
from serve_app.settings import JobSettings, NetSettings, WebhookSettings
from serve_app.store.database import Database
from serve_app.store.secrets import Secrets

KEY = "key-1"
JOBS = JobSettings(
    lease_seconds=1.0,
    heartbeat_seconds=0.2,
    poll_seconds=0.1,
    max_attempts=1000,  # so many deaths are nobody's fault
    retry_seconds=0.05,
    resend_wait_seconds=0.3,
)
WEBHOOKS = WebhookSettings(
    timeout_seconds=0.5, first_delay_seconds=0.1, max_delay_seconds=0.5, max_retries=1000, max_running=8
)
# Found without pytest's additions to the path, which the process that forks does not get.
_IMPORTED_ONCE = [
    "serve_app.jobs.service",
    "serve_app.net.guarded",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
]


@dataclass(frozen=True)
class Place:
    """What all these processes share."""

    database_url: str
    receiver_url: str
    accepted: Path
    """A line for each submit that was answered: its text and the job's id. What the clients know."""


def new_job(place: Place, text: str) -> NewJob:
    return NewJob("fal-ai/csm-1b", KEY, {"text": text}, webhook_url=f"{place.receiver_url}/{text}")


def result_of(text: str) -> JobResult:
    return JobResult({"spoken": text})


class BriefWork:
    """Some milliseconds, in steps at each of which the process may be dead."""

    async def run(self, job: LeasedJob, progress: Progress) -> JobResult:
        for step in range(2):
            progress.log(f"step {step}")
            await asyncio.sleep(random.uniform(0.001, 0.2))
        return result_of(job.input["text"])


class NoFiles:
    async def delete(self, file_id: str) -> None:
        pass


def run_jobs(place: Place) -> None:
    asyncio.run(_run_jobs(place))


async def _run_jobs(place: Place) -> None:
    database = Database.open(place.database_url)
    webhooks = FalWebhookFormat.open(Secrets(database))
    queue, outbox = JobQueue(database, JOBS, webhooks), Outbox(database, WEBHOOKS)
    net = GuardedClient(NetSettings(allowed_hosts=["127.0.0.1"]))
    runner = JobRunner(JobLeases(database, JOBS, webhooks), BriefWork(), JOBS, uuid.uuid4().hex)
    await JobService(queue, outbox, runner, WebhookSender(outbox, net, webhooks, WEBHOOKS), NoFiles()).run()


def take_in(place: Place, texts: Sequence[str]) -> None:
    """As an ingress does: the job is stored, its caller is answered, and the answer is noted."""
    asyncio.run(_take_in(place, texts))


async def _take_in(place: Place, texts: Sequence[str]) -> None:
    database = Database.open(place.database_url)
    queue = JobQueue(database, JOBS, FalWebhookFormat.open(Secrets(database)))
    for text in texts:
        job = await queue.submit(new_job(place, text))
        with place.accepted.open("a") as file:
            file.write(f"{text} {job.id}\n")
        await queue.answered(job.id)
        await asyncio.sleep(0.01)


class Processes:
    """Started within milliseconds, from one that has imported everything; ended by SIGKILL."""

    def __init__(self, place: Place, num_runners: int) -> None:
        self._place = place
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_IMPORTED_ONCE)
        self.runners = [self._runner() for _ in range(num_runners)]
        self.ingress: BaseProcess | None = None

    def _runner(self) -> BaseProcess:
        return self._started(run_jobs, self._place)

    def _started(self, target: object, *args: object) -> BaseProcess:
        process = self._context.Process(target=target, args=args, daemon=True)  # pyright: ignore[reportArgumentType]
        process.start()
        return process

    def kill_runner(self, number: int) -> None:
        """Another one is started in its place."""
        self._kill(self.runners[number])
        self.runners[number] = self._runner()

    def kill_all(self) -> None:
        """As when the whole server dies."""
        for process in [*self.runners, self.ingress]:
            self._kill(process)
        self.runners = [self._runner() for _ in self.runners]

    def stop(self) -> None:
        for process in [*self.runners, self.ingress]:
            self._kill(process)

    def kill_ingress(self) -> None:
        self._kill(self.ingress)

    def keep_taking_in(self, texts: Sequence[str]) -> None:
        """Clients send again, in order, what was not answered; a dead ingress is replaced."""
        if self.ingress is None or not self.ingress.is_alive():
            left = [text for text in texts if text not in answers(self._place)]
            self.ingress = self._started(take_in, self._place, left) if left else None

    def _kill(self, process: BaseProcess | None) -> None:
        if process is not None and process.pid is not None:
            process.kill()
            process.join()


def answers(place: Place) -> dict[str, str]:
    """The job's id by text, as clients know it. A line that was cut off never reached its client."""
    if not place.accepted.exists():
        return {}
    lines = place.accepted.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        with place.accepted.open("r+") as file:
            file.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    return dict(line.split() for line in lines)


def own_seed() -> int:
    """Of a test's kills: fixed, unless somebody looks for trouble."""
    return int(os.environ.get("CSM_KILLS_SEED", "1"))
