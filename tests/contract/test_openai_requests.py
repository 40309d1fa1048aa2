"""What clients of OpenAI's API send that are not its own SDKs."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.contract_server import Server
from tests.support.decoded import decoded


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def test_sillytavern_posts_to_a_full_url(http: httpx.Client) -> None:
    body = {"input": "Hello there.", "voice": "alloy", "response_format": "mp3", "speed": 1, "model": "tts-1"}
    answer = http.post("/v1/audio/speech", json=body, headers={"Authorization": "Bearer"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert len(decoded("mp3", answer.content)) >= 2 * 1920


def test_open_webui_lists_models_and_voices_and_speaks(http: httpx.Client) -> None:
    models = http.get("/v1/audio/models").json()["models"]
    assert "csm-1b" in [model["id"] for model in models]
    voices = {voice["id"]: voice["name"] for voice in http.get("/v1/audio/voices").json()["voices"]}
    assert {"alloy", "0", "1"} < set(voices)
    for voice in voices:
        body = {"model": "csm-1b", "input": "Hi.", "voice": voice}
        assert http.post("/v1/audio/speech", json=body).status_code == 200


def test_voices_can_be_listed_by_their_ids_alone(http: httpx.Client) -> None:
    assert http.get("/v1/audio/voices", params={"legacy": "true"}).json()["voices"][:3] == ["0", "1", "alloy"]


def test_livekit_asks_for_events_with_mp3_and_goes_by_the_content_type(http: httpx.Client) -> None:
    body = {"input": "One two three.", "model": "gpt-4o-mini-tts", "voice": "ash", "response_format": "mp3",
            "speed": 1.0, "stream_format": "sse", "instructions": ""}  # fmt: skip
    with http.stream("POST", "/v1/audio/speech", json=body) as answer:
        assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert len(decoded("mp3", audio)) >= 3 * 1920
    assert "x-csm-notice" not in answer.headers


def test_accept_counts_where_no_format_is_named(http: httpx.Client) -> None:
    answer = http.post("/v1/audio/speech", json={"input": "Hi."}, headers={"Accept": "audio/flac"})
    assert answer.headers["content-type"] == "audio/flac"


def test_a_file_that_is_sent_whole_says_how_long_it_is(http: httpx.Client) -> None:
    body = {"input": "Hello there.", "voice": 1, "response_format": "wav", "stream": False}
    answer = http.post("/v1/audio/speech", json=body)
    assert (answer.headers["x-csm-input-tokens"], answer.headers["x-csm-output-tokens"]) == ("10", "2")
    assert int(answer.headers["content-length"]) == len(answer.content) == 44 + 2 * 3840
    assert (answer.headers["x-csm-finish-reason"], answer.headers["x-csm-audio-seconds"]) == ("eos", "0.16")


def test_the_outcome_of_a_stream_can_be_asked_for(http: httpx.Client) -> None:
    answer = http.post("/v1/audio/speech", json={"input": "Hello there."}, headers={"X-Request-Id": "asked-for"})
    assert answer.headers["x-csm-request-id"] == "asked-for"
    outcome = http.get("/v1/audio/speech/asked-for").json()
    assert (outcome["id"], outcome["finish_reason"], outcome["audio_seconds"]) == ("asked-for", "eos", 0.16)
    missing = http.get("/v1/audio/speech/nobody's")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [(b"{", "body"), (b"[]", "body"), (b"", "body"), (b"{}", "input"), (b'{"input": 3}', "input"),
     (b'{"input": "x", "voice": true}', "voice"), (b'{"input": "x", "context": [' + b"{}," * 99 + b"{}]}", "context")],
)  # fmt: skip
def test_a_body_that_is_none_gets_openais_error(http: httpx.Client, body: bytes, param: str) -> None:
    answer = http.post("/v1/audio/speech", content=body)
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert set(error) == {"message", "type", "param", "code"}


def test_a_method_that_is_none_gets_openais_error(http: httpx.Client) -> None:
    answer = http.put("/v1/models", content=b"")
    assert answer.status_code in (404, 405)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
