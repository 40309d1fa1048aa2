"""The whole server is hurt while jobs are submitted over HTTP and run: its job runner is killed, its ingress, then all
of it. Every job that was accepted ends with its audio and one webhook."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import select

from serve_app.api.fal.webhook import FalWebhookFormat
from serve_app.jobs.tables import JOBS
from serve_app.store.database import Database
from serve_app.store.secrets import Secrets
from tests.support import server_process
from tests.support.ray_server import free_port
from tests.support.unreliable_receiver import Receiver, receiving

LONG = "A long story, told to the end. " * 20
QUEUE = "/fal/queue/fal-ai/csm-1b"
SETTINGS = {
    "CSM_MODEL": "stand-in",
    "CSM_STAND_IN": '{"step_ms_by_batch": {"1": 20}}',
    "CSM_NET__ALLOWED_HOSTS": '["127.0.0.1"]',
    "CSM_JOBS__LEASE_SECONDS": "3",
    "CSM_JOBS__HEARTBEAT_SECONDS": "0.5",
    "CSM_WEBHOOKS__TIMEOUT_SECONDS": "2",
    "CSM_WEBHOOKS__FIRST_DELAY_SECONDS": "0.5",
    "CSM_WEBHOOKS__MAX_DELAY_SECONDS": "2",
}


@dataclass
class Client:
    """Sends again what was not answered, as fal's clients do."""

    url: str
    hook: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10))
    accepted: dict[str, str] = field(default_factory=dict)
    """The job's id by its text."""

    def submit(self, *texts: str) -> None:
        for text in texts:
            body = {"scene": [{"text": text, "speaker_id": 0}], "max_audio_seconds": 60 if text is LONG else 4}
            answer = self._until_answered("POST", f"?fal_webhook={self.hook}", body)
            self.accepted[text] = answer.json()["request_id"]

    def status(self, text: str) -> str:
        return self._until_answered("GET", f"/requests/{self.accepted[text]}/status").json()["status"]

    def result(self, text: str) -> httpx.Response:
        return self._until_answered("GET", f"/requests/{self.accepted[text]}")

    def until(self, status: str, *texts: str) -> None:
        for text in texts:
            deadline = time.monotonic() + 120
            while self.status(text) != status:
                assert time.monotonic() < deadline, f"{text} is not {status} after two minutes"
                time.sleep(0.2)

    def _until_answered(self, method: str, path: str, body: object = None) -> httpx.Response:
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = self.http.request(method, f"{self.url}{QUEUE}{path}", json=body)
            except httpx.TransportError:
                assert time.monotonic() < deadline, "no answer for two minutes"
            else:
                if answer.status_code < 500:
                    return answer
            time.sleep(0.3)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def kill_replica(server: psutil.Process, deployment: str) -> None:
    """SIGKILL; of a server of its own, whatever other Ray runs on this machine."""
    for process in family(server):
        if " ".join(process.cmdline()).startswith(f"ray::ServeReplica:csm:{deployment}"):
            process.kill()
            return
    raise AssertionError(f"no replica of {deployment} runs")


def kill_all(server: psutil.Process) -> None:
    for process in family(server):
        process.kill()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    receiver = Receiver(FalWebhookFormat.open(Secrets(database)).jwks(), random.Random(1))
    database.close()
    with receiving(receiver):
        yield receiver


@pytest.mark.job_kills
@pytest.mark.timeout(900)
def test_jobs_outlive_runner_ingress_and_server(tmp_path: Path, receiver: Receiver) -> None:
    port = free_port()
    client = Client(f"http://127.0.0.1:{port}", receiver.url)
    command = [str(server_process.BIN / "csm-serve"), "serve", "--port", str(port)]
    env = server_process.environment(tmp_path, **SETTINGS)
    with server_process.running(command, client.url, env) as process:
        server = psutil.Process(process.pid)
        client.submit("runner-1", "runner-2", "runner-3", "runner-4", "runner-5")
        client.until("IN_PROGRESS", "runner-1")
        kill_replica(server, "JobRunner")
        client.submit("ingress-1")
        kill_replica(server, "Ingress")
        client.submit("ingress-2", "ingress-3")
        client.until("COMPLETED", "runner-1", "runner-2")
        client.submit("server-1", "server-2", "server-3", "server-4", "server-5")
        kill_all(server)
    with server_process.running(command, client.url, env):
        client.until("COMPLETED", *client.accepted)
        check_results(client)
        check_webhooks(client, receiver)
        client.submit(LONG)
        client.until("IN_PROGRESS", LONG)
    check_database(client, tmp_path)


def check_results(client: Client) -> None:
    for text in client.accepted:
        result = client.result(text)
        assert result.status_code == 200, result.text
        audio = client.http.get(result.json()["audio"]["url"])
        assert audio.content.startswith(b"RIFF") and len(audio.content) > 24_000


def check_webhooks(client: Client, receiver: Receiver) -> None:
    deadline = time.monotonic() + 60
    while set(receiver.bodies) != set(client.accepted.values()):
        assert time.monotonic() < deadline, "webhooks are missing after a minute"
        time.sleep(0.2)
    for text, job_id in client.accepted.items():
        (body,) = set(receiver.bodies[job_id])
        assert json.loads(body)["payload"] == client.result(text).json()
    assert receiver.forged == 0


def check_database(client: Client, tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    with database.reading() as connection:
        jobs = {row.id: row for row in connection.execute(select(JOBS))}
    assert set(jobs) == set(client.accepted.values()), "a request that was sent again made another job"
    # That server was asked to stop: what it could not finish waits for the next one.
    given_back = jobs[client.accepted[LONG]]
    # Which of its parts went first is up to Serve.
    assert given_back.state == "queued"
    assert given_back.reason in ("its runner was stopped", "the models are still loading")
    database.close()
