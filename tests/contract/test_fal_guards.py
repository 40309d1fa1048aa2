"""What hostile callers send: refused with its place, and nothing private in the log."""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.settings import DatabaseSettings, JobSettings
from tests.support.contract_server import Server, serving
from tests.support.postgres_server import PostgresServer
from tests.support.waiting import until

RUN = "/fal/run/fal-ai/csm-1b"
PRIVATE = "my most private words"


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def with_context(audio_url: Any) -> dict[str, Any]:
    speaker = {"prompt": "Before.", "speaker_id": 1, "audio_url": audio_url}
    return {"scene": [{"text": "Hello.", "speaker_id": 0}], "context": [speaker]}


NEVER_CALLED = [
    "http://10.0.0.1/a.wav",
    "http://192.168.1.1/a.wav",
    "http://172.16.0.1/a.wav",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1/a.wav",
    "http://0.0.0.0/a.wav",
    "http://224.0.0.1/a.wav",
    "http://[::1]/a.wav",
    "http://[fd00::1]/a.wav",
    "http://[fe80::1]/a.wav",
    "http://[64:ff9b::a00:1]/a.wav",
    "http://[::ffff:10.0.0.1]/a.wav",
    "http://0x0a000001/a.wav",
    "http://167772161/a.wav",
    "http://user:password@example.com/a.wav",
    "http://example.com:99999/a.wav",
    "https://",
    "https://[",
    "http://\ud800/a.wav",
    "http://a b/",
    "ftp://example.com/a.wav",
    "file:///etc/passwd",
    "gopher://example.com/",
    "/etc/passwd",
    "data:text/html,<script>",
    "data:audio/wav;base64,UklGRg==",
    "https://example.com/" + "x" * 100_000,
]


@pytest.mark.parametrize("url", NEVER_CALLED, ids=lambda url: ascii(url)[1:40])
def test_audio_that_is_not_fetched_is_named(http: httpx.Client, url: str) -> None:
    answer = http.post(RUN, content=json.dumps(with_context(url)))
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "context", 0, "audio_url"]
    assert answer.headers["x-fal-retryable"] == "false"


def test_a_file_that_was_never_here_is_named(http: httpx.Client, server: Server) -> None:
    answer = http.post(RUN, json=with_context(f"{server.url}/fal/cdn/files/{'x' * 32}/a.wav"))
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "file_download_error")
    assert "upload it again" in answer.json()["detail"][0]["msg"]


def test_a_file_of_ours_is_read_from_the_store_whatever_its_host(http: httpx.Client, clip: Any) -> None:
    stored = http.post("/fal/cdn/files/upload", content=clip.read_bytes()).json()["access_url"]
    path = stored.partition("/files/")[2]
    for base in ("https://v3.fal.media/files/", "http://10.0.0.1/fal/cdn/files/"):
        assert http.post(RUN, json=with_context(base + path)).status_code == 200
        assert http.post(RUN, json=with_context({"url": base + path})).status_code == 200


def test_no_words_sound_or_key_reach_the_log(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "serve_app")
    with serving(tmp_path_factory.mktemp("data"), needs_keys=True, jobs=JobSettings(poll_seconds=0.02)) as server:
        key = server.keys.create("a key")[1]
        headers = {"Authorization": f"Key {key}"}
        with httpx.Client(base_url=server.url, timeout=30, headers=headers) as http:
            for text in (PRIVATE, f"{PRIVATE} breakdown"):
                body = with_context("data:audio/wav;base64,UklGRg==") | {"scene": [{"text": text, "speaker_id": 0}]}
                for asked in (body, body | {"context": []}, body | {"seed": PRIVATE}):
                    http.post(RUN, json=asked)
                    with suppress(httpx.RemoteProtocolError):  # a stream that fails is broken off
                        http.post(f"{RUN}/stream", json=asked)
                    job = http.post("/fal/queue/fal-ai/csm-1b", json=asked, headers={"x-fal-no-retry": "1"}).json()
                    if "status_url" in job:
                        until(lambda job=job: http.get(job["status_url"]).status_code != 202, "the job ends")
            token = http.post("/fal/rest/tokens/", json={}).json()
            httpx.post(f"{server.url}{RUN}?fal_jwt_token={token}x", json=body)
    assert "job" in caplog.text
    for private in (PRIVATE, "UklGRg", key, key.partition(":")[2], token):
        assert private not in caplog.text


PATHS = [
    ("GET", "/fal/queue/fal-ai/csm-1b/requests/a%00b/status"),
    ("GET", "/fal/queue/fal-ai/csm-1b/requests/a%00b/status/stream"),
    ("GET", "/fal/queue/fal-ai/csm-1b/requests/a%00b"),
    ("PUT", "/fal/queue/fal-ai/csm-1b/requests/a%00b/cancel"),
    ("GET", "/fal/cdn/files/a%00b/x.wav"),
    ("PUT", "/fal/cdn/files/a/x.wav/multipart/a%00b/1"),
    ("POST", "/fal/cdn/files/a/x.wav/multipart/a%00b/complete"),
]


def test_a_name_that_postgresql_cannot_read_is_unknown(tmp_path: Path, postgres: PostgresServer) -> None:
    database = DatabaseSettings(url=postgres.new_database())
    with serving(tmp_path, database=database) as server:
        answers = {path: httpx.request(method, server.url + path, timeout=30) for method, path in PATHS}
    assert {path: answer.status_code for path, answer in answers.items()} == {path: 404 for _, path in PATHS}
    assert all("x-fal-request-id" in answer.headers for answer in answers.values())
