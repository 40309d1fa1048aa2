"""Batches over HTTP, as vLLM-Omni's clients send them and as ours may."""

import base64
import io
import json
import re
import subprocess
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.openai.batch_schema import parse_batch
from serve_app.errors import InvalidRequest
from serve_app.keys.key import Scope
from serve_app.settings import JobSettings, KeySettings, LimitSettings
from tests.support.contract_server import Server, serving
from tests.support.decoded import decoded

DOCS = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists()) / "docs/api.md"
PATH = "/v1/audio/speech/batch"
ASYNC = {"Prefer": "respond-async"}
FRAME = 1920


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("batches"),
        needs_keys=True,
        jobs=JobSettings(poll_seconds=0.02, max_running=8, retry_seconds=0.05, max_queued_per_key=6),
        keys=KeySettings(required=True, cached_seconds=0),
        limits=LimitSettings(max_batch_items=10, max_batch_text_chars=300, max_text_chars=250),
    ) as server:
        yield server


def client_of(server: Server, name: str, **more: Any) -> httpx.Client:
    headers = {"Authorization": f"Bearer {server.keys.create(name, **more)[1]}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=30)


@pytest.fixture
def http(guarded: Server, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with client_of(guarded, request.node.name[:40]) as http:
        yield http


def items(*texts: str) -> dict[str, Any]:
    return {"items": [{"input": text} for text in texts]}


def ended(http: httpx.Client, batch_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (batch := http.get(f"{PATH}/{batch_id}").raise_for_status().json())["status"] != "completed":
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def frames_in(wav: bytes) -> int:
    with wave.open(io.BytesIO(wav)) as file:
        return file.getnframes() // FRAME


def test_the_answer_is_vllm_omnis_with_the_sound_of_each_item(http: httpx.Client, guarded: Server) -> None:
    body = {
        "model": "csm-1b",
        "voice": "alloy",
        "items": [
            {"input": "One two three."},
            {"input": "One two.", "voice": "echo", "response_format": "mp3"},
            {"input": "One two three."},
        ],
    }
    answer = http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    batch = answer.json()
    assert (batch["total"], batch["succeeded"], batch["failed"], batch["status"]) == (3, 3, 0, "completed")
    results = batch["results"]
    assert [(one["index"], one["status"]) for one in results] == [(0, "success"), (1, "success"), (2, "success")]
    assert [one["media_type"] for one in results] == ["audio/wav", "audio/mpeg", "audio/wav"]
    assert len({one["id"] for one in results}) == 3, "equal items are jobs of their own"
    sounds = [base64.b64decode(one["audio_data"]) for one in results]
    assert (frames_in(sounds[0]), frames_in(sounds[2])) == (3, 3)
    assert len(decoded("mp3", sounds[1])) >= 2 * FRAME
    assert [one["finish_reason"] for one in results] == ["eos"] * 3
    assert results[0]["audio_seconds"] == pytest.approx(0.24)
    for one, sound in zip(results, sounds, strict=True):
        assert httpx.get(one["audio_url"]).content == sound
    assert answer.headers["location"] == f"{guarded.url}{PATH}/{batch['id']}"
    spoken = {request.text: request.speaker for request in guarded.decoder.requests[-3:]}
    assert (spoken["One two three."], spoken["One two."]) == (0, 1)


def test_a_caller_that_does_not_wait_asks_again(http: httpx.Client) -> None:
    answer = http.post(PATH, json=items("Hello there.", "Hi."), headers=ASYNC)
    assert answer.status_code == 202
    assert "audio_data" not in answer.json()["results"][0]
    batch = ended(http, answer.json()["id"])
    assert [one["status"] for one in batch["results"]] == ["success", "success"]
    assert frames_in(httpx.get(batch["results"][0]["audio_url"]).content) == 2
    listed = {job["id"] for job in http.get("/jobs").json()["jobs"]}
    assert {one["id"] for one in batch["results"]} <= listed


def test_a_wait_that_is_too_short_ends_with_what_there_is(http: httpx.Client, guarded: Server) -> None:
    guarded.decoder.go_on.clear()
    answer = http.post(PATH, json=items("Hello.", "waitforever"), headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert [one["status"] for one in answer.json()["results"]] == ["success", "in_progress"]
    guarded.decoder.go_on.set()
    assert ended(http, answer.json()["id"])["succeeded"] == 2


def test_an_item_that_fails_leaves_the_others_alone_and_can_be_retried(http: httpx.Client) -> None:
    batch = http.post(PATH, json=items("Hello.", "breakdown")).json()
    assert (batch["succeeded"], batch["failed"]) == (1, 1)
    failed = batch["results"][1]
    assert failed["error"] == {"message": "the engine broke", "type": "server_error"}
    again = http.post(f"/jobs/{failed['id']}/retry")
    assert (again.status_code, again.json()["id"] != failed["id"]) == (200, True)
    assert len(http.get(f"{PATH}/{batch['id']}").json()["results"]) == 2, "the new job is its own"


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, "items", "must be a list"),
        ({"items": []}, "items", "must be a list"),
        ({"items": "Hello."}, "items", "must be a list"),
        (items(*["Hi."] * 11), "items", "11 items, at most 10"),
        ({"items": [{"input": "Hi."}, "Hi."]}, "items[1].input", "must stand in an object"),
        ({"items": [{"input": "Hi."}, {}]}, "items[1].input", "is missing"),
        (items("Hi.", "Hi.", "Hi.", "  "), "items[3].input", "is empty"),
        (items("a " * 100, "a " * 100), "items[1].input", "400 characters, at most 300"),
        ({"items": [{"input": "Hi."}, {"input": "Hi.", "voice": "nobody"}]}, "items[1].voice", "is not known"),
        ({"items": [{"input": "Hi.", "speed": 9}]}, "items[0].speed", "0.25 to 4"),
        ({"items": [{"input": "Hi."}], "response_format": "vinyl"}, "items[0].response_format", "is not one of"),
        ({"items": [{"input": "Hi."}], "temperature": "hot"}, "items[0].temperature", "must be a number"),
        ({"items": [{"input": "Hi."}], "input": "Hello."}, "input", "stands in the items"),
    ],
)
def test_a_bad_item_is_named_before_any_is_spoken(
    http: httpx.Client, body: dict[str, Any], param: str, says: str
) -> None:
    answer = http.post(PATH, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert error["message"].startswith(f"{param}: ")
    assert says in error["message"]
    assert http.get("/jobs").json()["jobs"] == []


def test_clips_among_the_defaults_count_for_each_item() -> None:
    clip = {"text": "Words.", "speaker": 0, "audio": "A" * 500}
    body = items("One.", "Two.", "Three.") | {"context": [clip]}
    with pytest.raises(InvalidRequest) as refused:
        parse_batch(json.dumps(body).encode(), LimitSettings(max_body_bytes=1024))
    assert (refused.value.field, "keep a voice once" in refused.value.message) == ("items[2].context", True)
    assert len(parse_batch(json.dumps(body).encode(), LimitSettings(max_body_bytes=1500))) == 3


def test_the_example_of_the_docs_runs(server: Server) -> None:
    section = DOCS.read_text().partition("\n### Batches\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    env = {"URL": server.url, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["succeeded"] == 2


def test_a_batch_that_the_queue_has_no_room_for_is_refused_whole(http: httpx.Client) -> None:
    answer = http.post(PATH, json=items(*["Hi."] * 7), headers=ASYNC)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "retry-after" in answer.headers
    assert http.get("/jobs").json()["jobs"] == []


def test_a_batch_is_cancelled_then_deleted_with_its_audio(http: httpx.Client, guarded: Server) -> None:
    guarded.decoder.go_on.clear()
    batch_id = http.post(PATH, json=items("Hello.", "waitforever"), headers={"Prefer": "wait=1"}).json()["id"]
    early = http.delete(f"{PATH}/{batch_id}")
    assert early.status_code == 409
    assert "cancel it first" in early.json()["error"]["message"]
    assert http.post(f"{PATH}/{batch_id}/cancel").status_code == 200
    batch = ended(http, batch_id)
    assert (batch["succeeded"], batch["failed"]) == (1, 1)
    assert "cancelled" in batch["results"][1]["error"]["message"]
    url = batch["results"][0]["audio_url"]
    assert httpx.get(url).status_code == 200
    assert http.delete(f"{PATH}/{batch_id}").json() == {
        "id": batch_id,
        "object": "audio.speech.batch.deleted",
        "deleted": True,
    }
    assert http.get(f"{PATH}/{batch_id}").status_code == 404
    assert httpx.get(url).status_code == 404


def test_a_batch_belongs_to_its_key(http: httpx.Client, guarded: Server) -> None:
    batch_id = http.post(PATH, json=items("Hello.")).json()["id"]
    with client_of(guarded, "stranger") as stranger, client_of(guarded, "files", scopes={Scope.FILES}) as unfit:
        for method, path in (("GET", batch_id), ("POST", f"{batch_id}/cancel"), ("DELETE", batch_id)):
            answer = stranger.request(method, f"{PATH}/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
            assert unfit.request(method, f"{PATH}/{path}").status_code == 403
        assert unfit.post(PATH, json=items("Hello.")).status_code == 403
    assert httpx.post(f"{guarded.url}{PATH}", json=items("Hello.")).status_code == 401
    for nothing in ("x", "%00", "0" * 36):
        assert http.get(f"{PATH}/{nothing}").status_code == 404
    assert http.get(f"{PATH}/{batch_id}").json()["total"] == 1


def test_a_repeated_submit_with_its_idempotency_key_is_the_same_batch(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "made once"}
    first = http.post(PATH, json=items("Hello.", "Hello."), headers=key).json()
    again = http.post(PATH, json=items("Hello.", "Hello."), headers=key).json()
    assert again == first
    other = http.post(PATH, json=items("Hello."), headers=key)
    assert (other.status_code, "another request" in other.json()["error"]["message"]) == (400, True)


def test_a_batch_goes_on_in_the_next_process(tmp_path: Path) -> None:
    jobs = JobSettings(poll_seconds=0.02, lease_seconds=1.0, heartbeat_seconds=0.2)
    with serving(tmp_path, jobs=jobs, keys=KeySettings(open=True)) as first:
        sent = httpx.post(
            f"{first.url}{PATH}", json=items("Hello.", "waitforever"), headers={"Prefer": "wait=1"}
        ).json()
        assert [one["status"] for one in sent["results"]] == ["success", "in_progress"]
    with serving(tmp_path, jobs=jobs, keys=KeySettings(open=True)) as second:
        second.decoder.go_on.set()
        with httpx.Client(base_url=second.url, timeout=30) as http:
            batch = ended(http, sent["id"])
    assert [one["id"] for one in batch["results"]] == [one["id"] for one in sent["results"]]
    assert batch["succeeded"] == 2, batch
    assert [request.text for request in second.decoder.requests] == ["waitforever"], "what has ended is kept"


def test_options_of_files_hold_and_those_of_streams_are_told(http: httpx.Client) -> None:
    body = items("One two three four.") | {"speed": 2, "sample_rate": 16_000, "stream_format": "sse", "colour": "red"}
    (one,) = http.post(PATH, json=body).json()["results"]
    with wave.open(io.BytesIO(base64.b64decode(one["audio_data"]))) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, pytest.approx(0.16 * 16_000, rel=0.1))
    assert any("stream_format" in notice for notice in one["notices"])
    assert any("colour" in notice for notice in one["notices"])


def test_a_batch_with_a_clip_keeps_it_for_its_jobs(http: httpx.Client, clip: Path, guarded: Server) -> None:
    context = [{"text": "Words.", "speaker": 0, "audio": base64.b64encode(clip.read_bytes()).decode()}]
    batch = http.post(PATH, json=items("Hello.", "Hi.") | {"context": context}).json()
    assert batch["succeeded"] == 2, batch
    assert [request.context[0].text for request in guarded.decoder.requests[-2:]] == ["Words.", "Words."]
