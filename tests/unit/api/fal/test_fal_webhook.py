"""Webhooks have fal's body, and a signature that fal's receivers verify."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from serve_app.api.fal.job_answers import answer_of, error_of
from serve_app.api.fal.webhook import FalWebhookFormat, new_private_key
from serve_app.errors import (
    Cancelled,
    CsmServeError,
    DownloadFailed,
    GenerationFailed,
    InternalError,
    RunnerLost,
    StartTimeout,
    Unauthorized,
)
from serve_app.jobs.job import JobResult, JobState
from serve_app.jobs.tables import JOBS, RESULTS
from serve_app.store.database import Database
from serve_app.store.secrets import Secrets
from tests.support.jobs_harness import KEY, Clock, Harness
from tests.support.webhook_verifier import verify


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    yield database
    database.close()


@pytest.fixture
def webhooks() -> FalWebhookFormat:
    return FalWebhookFormat(new_private_key())


def test_a_success_is_told_with_its_output(webhooks: FalWebhookFormat) -> None:
    assert json.loads(webhooks.body("job-1", JobResult({"seed": 7}))) == {
        "request_id": "job-1",
        "gateway_request_id": "job-1",
        "status": "OK",
        "error": None,
        "payload": {"seed": 7},
    }


def test_a_failure_is_told_with_its_error(webhooks: FalWebhookFormat) -> None:
    assert json.loads(webhooks.body("job-1", JobResult.failed(GenerationFailed("the engine broke")))) == {
        "request_id": "job-1",
        "gateway_request_id": "job-1",
        "status": "ERROR",
        "error": "Invalid status code: 500",
        "payload": {"detail": "the engine broke", "error_type": "runner_server_error"},
    }


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (Cancelled("cancelled"), 499, "client_cancelled"),
        (StartTimeout("late"), 504, "request_timeout"),
        (RunnerLost("died"), 503, "runner_disconnected"),
        (InternalError("a bug"), 500, "internal_error"),
    ],
    ids=lambda value: value.kind if isinstance(value, CsmServeError) else "",
)
def test_each_end_without_work_has_its_status_and_type(error: CsmServeError, status: int, error_type: str) -> None:
    result = JobResult.failed(error)
    assert answer_of(result) == (status, {"detail": str(error), "error_type": error_type})
    assert result.error is not None and error_of(result.error) == {"error": str(error), "error_type": error_type}


def test_bad_input_keeps_its_place() -> None:
    result = JobResult.failed(DownloadFailed("context[0].audio", "cannot be had"))
    problem = {"loc": ["body", "context", 0, "audio_url"], "msg": "cannot be had", "type": "file_download_error"}
    assert answer_of(result) == (422, {"detail": [problem]})
    told = {"error": "context.0.audio_url: cannot be had", "error_type": "file_download_error"}
    assert result.error is not None and error_of(result.error) == told


def test_every_failed_job_has_an_error_type() -> None:
    error = JobResult.failed(Unauthorized("revoked")).error
    assert error is not None and error_of(error) == {"error": "revoked", "error_type": "internal_error"}


async def test_a_failure_that_an_older_release_stored_reads_as_it_was(database: Database) -> None:
    harness = Harness(database, Clock())
    job_id = await harness.submitted()
    body = {"detail": "the file is too large", "error_type": "file_too_large"}
    with database.writing() as connection:
        old = {"state": JobState.FAILED, "error_type": "file_too_large", "error": "the file is too large"}
        connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(old))
        connection.execute(insert(RESULTS).values(number=1, attempt=1, status_code=413, body=json.dumps(body)))
    result = await harness.queue.result(job_id, KEY)
    assert result is not None and answer_of(result) == (413, body)
    error = (await harness.queue.get(job_id, KEY)).error
    assert error is not None
    assert error_of(error) == {"error": "the file is too large", "error_type": "file_too_large"}


def test_a_receiver_verifies_what_we_sign(webhooks: FalWebhookFormat) -> None:
    headers = webhooks.headers("r-1", "user-1", b'{"status":"OK"}', 1_700_000_000.9)
    assert headers["X-Fal-Webhook-Timestamp"] == "1700000000"
    assert verify(webhooks.jwks(), headers, b'{"status":"OK"}')


@pytest.mark.parametrize("header", ["Request-Id", "User-Id", "Timestamp"])
def test_what_was_changed_on_the_way_is_noticed(webhooks: FalWebhookFormat, header: str) -> None:
    headers = webhooks.headers("r-1", "user-1", b"{}", 1_700_000_000)
    assert not verify(webhooks.jwks(), headers | {f"X-Fal-Webhook-{header}": "2"}, b"{}")
    assert not verify(webhooks.jwks(), headers, b"{ }")


def test_the_public_key_is_a_json_web_key_set(webhooks: FalWebhookFormat) -> None:
    (key,) = webhooks.jwks()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert len(key["x"]) == 43 and "=" not in key["x"]


def test_all_replicas_sign_with_one_key(database: Database, webhooks: FalWebhookFormat) -> None:
    first, second = (FalWebhookFormat.open(Secrets(database)) for _ in range(2))
    assert first.jwks() == second.jwks() != webhooks.jwks()
