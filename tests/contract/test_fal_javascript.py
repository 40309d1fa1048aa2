"""fal's own JavaScript client under Node, by each way to lead it here."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.contract_server import Server
from tests.support.fakes import pcm_of
from tests.support.waiting import until
from tests.support.webhook_receiver import receiving

REQUEST_ID_CHARS = 36


def node(folder: Path, server: Server, *command: str, **environment: str) -> Any:
    done = subprocess.run(
        ("node", "--no-warnings", *command),
        cwd=folder,
        env=os.environ | {"SERVER": server.url} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def scenario(node_folder: Path, server: Server) -> Any:
    def play(name: str, *flags: str, **environment: str) -> Any:
        return node(node_folder, server, *flags, "scenarios.mjs", name, **environment)

    return play


def is_spoken(data: dict[str, Any], words: int) -> bool:
    answer = httpx.get(data["audio"]["url"])
    return answer.headers["content-type"] == "audio/wav" and len(answer.content) == 44 + words * 3840


def test_the_code_of_fals_page_runs_as_printed(node_folder: Path, server: Server) -> None:
    with receiving() as receiver:
        told = node(node_folder, server, "seed.mjs", WEBHOOK=receiver.url)
        assert told["status"] == "COMPLETED"
        assert told["answered"] == told["request_id"]
        assert is_spoken(told["data"], 5 + 4 + 9)
        assert httpx.get(told["url"]).text == "Hello, World!"
        delivered = receiver.next()
    assert json.loads(delivered.body)["payload"] == told["data"]


@pytest.mark.parametrize("way", ["proxy", "middleware", "fetch"])
def test_run_by_each_way(scenario: Any, way: str) -> None:
    result = scenario("run", WAY=way)
    assert is_spoken(result["data"], 3)
    assert len(result["requestId"]) == REQUEST_ID_CHARS


@pytest.mark.parametrize("way", ["proxy", "fetch"])
def test_subscribe_polls(scenario: Any, way: str) -> None:
    result = scenario("subscribe", WAY=way)
    assert is_spoken(result["data"], 3)
    last = result["updates"][-1]
    assert (last["status"], last["request_id"]) == ("COMPLETED", result["requestId"])
    assert last["logs"][0]["message"] == "started: 1 turn, no context; turn 1 of 1"


def test_subscribe_streams_each_log_once(scenario: Any) -> None:
    result = scenario("subscribeStreaming")
    assert is_spoken(result["data"], 3)
    assert result["updates"][-1] == {"status": "COMPLETED", "logs": 3}


def test_cancel(scenario: Any) -> None:
    result = scenario("cancel")
    assert result["status"]["logs"] == []
    assert (result["error"]["status"], result["error"]["body"]["error_type"]) == (499, "client_cancelled")


def test_a_client_that_gives_up_cancels(scenario: Any, server: Server) -> None:
    assert "timed out" in scenario("timeout")["message"]
    until(lambda: not server.decoder.num_open, "nothing is spoken any more")


def test_a_start_timeout_is_not_tried_again(scenario: Any, server: Server) -> None:
    asked = len(server.decoder.requests)
    error = scenario("startTimeout")
    assert (error["status"], error["timeoutType"]) == (504, "user")
    assert len(server.decoder.requests) == asked + 1


def test_a_wrong_input_is_a_validation_error(scenario: Any) -> None:
    error = scenario("invalid")
    assert (error["kind"], error["status"]) == ("ValidationError", 422)
    assert error["places"] == [["body", "scene", 0, "text"]]
    assert error["text"][0]["msg"] == "Field required"
    assert len(error["requestId"]) == REQUEST_ID_CHARS


def test_other_errors_are_api_errors(scenario: Any) -> None:
    failed = scenario("failed")
    assert (failed["isApiError"], failed["status"], failed["body"]["error_type"]) == (True, 500, "runner_server_error")
    assert scenario("unknown")["status"] == 404
    assert scenario("otherApp")["body"] == {"detail": "nothing is served here; the application is fal-ai/csm-1b"}


def test_an_overloaded_server_is_asked_again(scenario: Any, server: Server) -> None:
    server.decoder.refusals_left = 2
    assert is_spoken(scenario("run")["data"], 3)


def test_uploads(scenario: Any, server: Server, clip: Path) -> None:
    heard = len(server.encoder.clips)
    result = scenario("upload", CLIP=base64.b64encode(clip.read_bytes()).decode())
    assert httpx.get(result["url"]).content == clip.read_bytes()
    assert is_spoken(result["data"], 1)
    assert server.encoder.clips[heard:] == [pcm_of(5, 13)[:48_000]]


def test_a_large_file_goes_up_in_parts(scenario: Any) -> None:
    result = scenario("uploadInParts")
    assert result["length"] == result["size"]


def test_stream(scenario: Any) -> None:
    result = scenario("stream")
    assert [event.get("index") for event in result["events"]] == [0, 1, 2, None]
    assert is_spoken(result["done"], 3)
    assert len(result["requestId"]) == REQUEST_ID_CHARS


def test_a_page_streams_with_a_token(scenario: Any) -> None:
    assert is_spoken(scenario("streamByClient", WAY="fetch")["done"], 2)


def test_a_stream_that_breaks_off_is_an_error(scenario: Any) -> None:
    assert scenario("brokenStream")["isApiError"]


def test_realtime(scenario: Any) -> None:
    result = scenario("realtime", "--experimental-websocket")
    *chunks, audio = result["results"]
    assert chunks == [3840] * 3
    assert audio["content_type"] == "audio/wav"
    assert result["errors"] == ["BAD_REQUEST: scene: has 0 turns: send from 1 to 32"]
