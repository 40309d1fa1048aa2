"""The queue on the wire: what fal's clients do not show."""

import hashlib
import json
import socket
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fal_client import encode_file
from sqlalchemy import event, func, select

from serve_app.jobs.tables import INPUTS, JOBS
from tests.support.contract_server import Server
from tests.support.fakes import pcm_of
from tests.support.waiting import until
from tests.support.webhook_receiver import Delivered, receiving

QUEUE = "/fal/queue/fal-ai/csm-1b"


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def saying(text: str, **more: Any) -> dict[str, Any]:
    return {"scene": [{"text": text, "speaker_id": 0}], **more}


def submit(http: httpx.Client, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = http.post(QUEUE, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-fal-request-id"] == answer.json()["request_id"]
    return answer.json()


def ended(http: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    until(lambda: http.get(job["status_url"]).status_code != 202, "the job ends")
    status = http.get(job["status_url"], params={"logs": "1"})
    assert status.status_code == 200
    return status.json()


def test_a_job_that_waits_has_a_place_and_one_that_runs_has_logs(http: httpx.Client, server: Server) -> None:
    server.decoder.go_on.clear()
    jobs = [submit(http, saying(f"job {number} waitforever")) for number in range(10)]
    try:
        until(lambda: http.get(jobs[7]["status_url"]).json()["status"] != "IN_QUEUE", "eight jobs run")
        running = http.get(jobs[0]["status_url"])
        assert (running.status_code, running.json()["logs"]) == (202, [])
        waiting = [http.get(job["status_url"]) for job in jobs[8:]]
        assert [(status.status_code, status.json()["queue_position"]) for status in waiting] == [(202, 0), (202, 1)]
        first = submit(http, saying("later, but not low"), **{"x-fal-queue-priority": "normal"})
        last = submit(http, saying("low"), **{"x-fal-queue-priority": "low"})
        assert (first["queue_position"], last["queue_position"]) == (2, 3)
        early = http.get(jobs[9]["response_url"])
        assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})
        cancelled = http.put(last["cancel_url"])
        assert (cancelled.status_code, cancelled.json()) == (200, {"status": "OK"})
        assert http.get(last["response_url"]).status_code == 499
    finally:
        server.decoder.go_on.set()
    assert all(ended(http, job)["status"] == "COMPLETED" for job in (*jobs, first))
    server.decoder.go_on.clear()


def test_logs_come_only_where_they_are_asked_for(http: httpx.Client) -> None:
    job = submit(http, saying("one two"))
    logs = ended(http, job)["logs"]
    assert [set(entry) for entry in logs] == [{"message", "level", "source", "timestamp"}] * len(logs)
    assert logs[0]["timestamp"].endswith("+00:00")
    for asked in ("true", "1"):
        assert http.get(job["status_url"], params={"logs": asked}).json()["logs"] == logs
    for asked in ({}, {"logs": "0"}, {"logs": "false"}):
        assert http.get(job["status_url"], params=asked).json()["logs"] == []


def test_the_status_stream_sends_each_log_once_and_ends(http: httpx.Client) -> None:
    job = submit(http, saying("one two"))
    with http.stream("GET", f"{job['status_url']}/stream?logs=1") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line]
    assert events[-1]["status"] == "COMPLETED"
    told = [entry["message"] for event in events for entry in event.get("logs", [])]
    assert told == [entry["message"] for entry in ended(http, job)["logs"]]


def test_nothing_is_known_of_other_jobs(http: httpx.Client) -> None:
    job = f"{QUEUE}/requests/00000000-0000-0000-0000-000000000000"
    for path in (job, f"{job}/response", f"{job}/status", f"{job}/status/stream"):
        assert http.get(path).status_code == 404
    answer = http.put(f"{job}/cancel")
    assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})


def test_a_start_timeout_ends_a_job_that_waits(http: httpx.Client, server: Server) -> None:
    blockers = [submit(http, saying(f"blocker {number} waitforever")) for number in range(8)]
    try:
        job = submit(http, saying("in line"), **{"x-fal-request-timeout": "1.5"})
        status = ended(http, job)
        assert status["error_type"] == "request_timeout"
        result = http.get(job["response_url"])
        assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")
    finally:
        for blocker in blockers:
            http.put(blocker["cancel_url"])
    assert all(ended(http, blocker)["error_type"] == "client_cancelled" for blocker in blockers)


def test_an_idempotency_key_names_one_job(http: httpx.Client) -> None:
    first, again = (submit(http, saying("once"), **{"Idempotency-Key": "k1"}) for _ in range(2))
    assert first["request_id"] == again["request_id"]
    other = http.post(QUEUE, json=saying("twice"), headers={"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["detail"][0]["loc"]) == (422, ["header", "Idempotency-Key"])


def test_two_answered_submits_are_two_jobs(http: httpx.Client) -> None:
    first, second = (submit(http, saying("the same")) for _ in range(2))
    assert first["request_id"] != second["request_id"]


def test_a_submit_that_is_sent_again_unanswered_is_one_job(http: httpx.Client, server: Server) -> None:
    body = json.dumps(saying("sent twice")).encode()
    head = f"POST {QUEUE} HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    host, port = server.host.split(":")
    before = num_jobs(server)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
    until(lambda: num_jobs(server) > before, "the job is submitted")
    assert http.post(QUEUE, content=body).status_code == 200
    assert num_jobs(server) == before + 1


def num_jobs(server: Server) -> int:
    with server.database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(JOBS)) or 0


@contextmanager
def running_jobs_input_sizes(server: Server) -> Iterator[list[int]]:
    """Of the inputs that are stored while the block runs."""
    sizes: list[int] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if "INSERT INTO job_inputs" in statement:
            sizes.append(len(str(values)))

    event.listen(server.database._engine, "before_cursor_execute", note)
    try:
        yield sizes
    finally:
        event.remove(server.database._engine, "before_cursor_execute", note)


def test_inline_audio_does_not_lie_in_the_jobs_row(http: httpx.Client, server: Server, clip: Any) -> None:
    heard = len(server.encoder.clips)
    context = [{"prompt": "Before.", "speaker_id": 1, "audio_url": encode_file(clip)}]
    with running_jobs_input_sizes(server) as sizes:
        job = submit(http, saying("after", context=context))
    assert "error" not in ended(http, job)
    assert server.encoder.clips[heard:] == [pcm_of(5, 13)[:48_000]]
    assert sizes and max(sizes) < 10_000


def test_a_job_without_retries_fails_at_once(http: httpx.Client, server: Server) -> None:
    asked = len(server.decoder.requests)
    status = ended(http, submit(http, saying("it breaks breakdown"), **{"x-fal-no-retry": "1"}))
    assert status["error_type"] == "runner_server_error"
    assert len(server.decoder.requests) == asked + 1


@pytest.mark.parametrize(
    ("text", "status", "error"), [("one two", "OK", None), ("it breaks breakdown", "ERROR", "Invalid status code: 500")]
)
def test_a_webhook_tells_the_end_with_a_signature(
    http: httpx.Client, text: str, status: str, error: str | None
) -> None:
    with receiving() as receiver:
        answer = http.post(
            QUEUE, params={"fal_webhook": receiver.url}, json=saying(text), headers={"x-fal-no-retry": "1"}
        )
        job = answer.json()
        delivered = receiver.next()
    message = json.loads(delivered.body)
    assert message["request_id"] == message["gateway_request_id"] == job["request_id"]
    assert (message["status"], message["error"]) == (status, error)
    assert message["payload"] == http.get(job["response_url"]).json()
    verify(delivered, http.get("/fal/rest/.well-known/jwks.json").json())


def verify(delivered: Delivered, jwks: dict[str, Any]) -> None:
    """As fal's page tells receivers to."""
    headers = {name.lower(): value for name, value in delivered.headers.items()}
    request_id, user_id, timestamp = (
        headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")
    )
    assert abs(time.time() - int(timestamp)) < 300
    signed = "\n".join([request_id, user_id, timestamp, hashlib.sha256(delivered.body).hexdigest()]).encode()
    key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(jwks["keys"][0]["x"] + "=="))
    key.verify(bytes.fromhex(headers["x-fal-webhook-signature"]), signed)


@pytest.mark.parametrize(
    "url", ["not a url", "ftp://example.com", "http://10.0.0.1/hook", "http://user:pass@example.com"]
)
def test_a_webhook_that_may_not_be_called_is_refused_at_once(http: httpx.Client, url: str) -> None:
    answer = http.post(QUEUE, params={"fal_webhook": url}, json=saying("Hi."))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "fal_webhook"])


HEADERS = [
    ("x-fal-queue-priority", "urgent"),
    ("x-fal-request-timeout", "soon"),
    ("x-fal-request-timeout", "-1"),
    ("x-fal-request-timeout", "nan"),
    ("x-fal-no-retry", "maybe"),
    ("x-fal-store-io", "maybe"),
    ("x-fal-object-lifecycle-preference", "{"),
]


@pytest.mark.parametrize(("name", "value"), HEADERS)
def test_a_header_that_cannot_be_read_is_named(http: httpx.Client, name: str, value: str) -> None:
    answer = http.post(QUEUE, json=saying("Hi."), headers={name: value})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["header", name])


def test_asking_for_the_status_writes_nothing_and_reads_no_result(http: httpx.Client, server: Server) -> None:
    job = submit(http, saying("one two"))
    ended(http, job)
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if job["request_id"] in str(values):
            statements.append(statement)

    engine = server.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        http.get(job["status_url"], params={"logs": "1"})
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert statements, "the statement was seen"
    assert all(statement.lstrip().upper().startswith("SELECT") for statement in statements)
    assert not any("job_results" in statement or "job_inputs" in statement for statement in statements)


def test_the_input_of_a_job_goes_with_its_end(http: httpx.Client, server: Server) -> None:
    def inputs(job: dict[str, Any]) -> int:
        with server.database.reading() as connection:
            found = select(func.count()).select_from(INPUTS.join(JOBS)).where(JOBS.c.id == job["request_id"])
            return connection.scalar(found) or 0

    usual, unstored = submit(http, saying("one")), submit(http, saying("two"), **{"X-Fal-Store-IO": "0"})
    assert "error" not in ended(http, usual) and "error" not in ended(http, unstored)
    assert (inputs(usual), inputs(unstored)) == (0, 0)
    assert http.get(http.get(unstored["response_url"]).json()["audio"]["url"]).status_code == 200


@pytest.mark.parametrize("value", ["1", "true", "yes", "0", "false", "no"])
def test_a_switch_is_read_in_each_of_fals_spellings(http: httpx.Client, value: str) -> None:
    ended(http, submit(http, saying("one"), **{"x-fal-no-retry": value, "x-fal-store-io": value}))


def test_an_ended_job_can_be_deleted_with_its_file(http: httpx.Client) -> None:
    job = submit(http, saying("one"))
    ended(http, job)
    file = http.get(job["response_url"]).json()["audio"]["url"]
    assert http.delete(job["response_url"]).status_code == 204
    assert http.get(file).status_code == http.get(job["status_url"]).status_code == 404
    assert http.delete(job["response_url"]).status_code == 404


def test_a_job_that_has_not_ended_is_cancelled_first(http: httpx.Client) -> None:
    job = submit(http, saying("stayqueued"))
    assert http.delete(job["response_url"]).status_code == 400
    assert http.put(job["cancel_url"]).status_code in (200, 202)
    ended(http, job)
    assert http.delete(job["response_url"]).status_code == 204
