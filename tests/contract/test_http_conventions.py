"""HTTP as clients speak it, on fal's surfaces over real HTTP."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.contract_server import Server
from tests.support.decoded import decoded
from tests.support.made_up_clips import encoded, sine
from tests.support.waiting import until

RUN, QUEUE = "/fal/run/fal-ai/csm-1b", "/fal/queue/fal-ai/csm-1b"
SCENE = {"scene": [{"text": "Hello there.", "speaker_id": 0}]}


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


@pytest.mark.parametrize("path", [RUN, f"{RUN}/stream", QUEUE])
def test_notices_stand_in_the_headers_of_every_answer_with_a_scene(http: httpx.Client, path: str) -> None:
    scene = [{"text": "Hello 👋.", "speaker_id": 0, "mood": "x"}]
    answer = http.post(path, json={"scene": scene, "seed": -1, "top_k": 0, "max_audio_seconds": 1e6})
    assert answer.status_code == 200
    assert answer.headers["x-csm-notice"] == (
        "unknown field scene.0.mood was ignored; max_audio_seconds: lowered to 1800, the limit of this server"
    )
    assert answer.headers["x-csm-text-notice"] == "emoji: 1 not spoken"


def _outputs(http: httpx.Client, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The output of the same input by each way."""
    yield http.post(RUN, json=body).raise_for_status().json()
    events = http.post(f"{RUN}/stream", json=body).raise_for_status().text
    yield json.loads(events.strip().rpartition("data: ")[2])
    job = http.post(QUEUE, json=body).raise_for_status().json()
    until(lambda: http.get(job["status_url"]).status_code == 200, "the job has ended")
    yield http.get(job["response_url"]).raise_for_status().json()


def test_every_output_tells_of_the_request_its_text_and_its_recordings(http: httpx.Client) -> None:
    quiet = b64encode(encoded(sine() * 0.01, 24_000, "WAV", "PCM_16")).decode()
    context = [{"prompt": "Hi.", "speaker_id": 0, "audio_url": f"data:audio/wav;base64,{quiet}"}]
    scene = [{"text": "Hello \N{WAVING HAND SIGN}.", "speaker_id": 0, "mood": "x"}]
    for output in _outputs(http, {"scene": scene, "context": context}):
        unknown, unspoken, recording = output["notices"]
        assert unknown == "unknown field scene.0.mood was ignored"
        assert unspoken == "emoji: 1 not spoken"
        assert "the audio is very quiet" in recording


def test_an_output_without_notices_has_no_such_field(http: httpx.Client) -> None:
    assert all("notices" not in output for output in _outputs(http, SCENE))


def test_streams_pass_proxies_at_once(http: httpx.Client) -> None:
    job = http.post(QUEUE, json=SCENE).json()["request_id"]
    streams: list[tuple[str, str, Any]] = [
        ("POST", f"{RUN}/stream", SCENE),
        ("GET", f"{QUEUE}/requests/{job}/status/stream", None),
    ]
    for method, path, body in streams:
        with http.stream(method, path, json=body) as answer:
            assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-store")


def test_head_answers_as_get_does_even_for_a_stream_that_goes_on(http: httpx.Client, server: Server) -> None:
    job = http.post(QUEUE, json={"scene": [{"text": "Hello [wait].", "speaker_id": 0}]}).json()["request_id"]
    try:
        for path, status in ((f"{QUEUE}/requests/{job}/status", 202), (f"{QUEUE}/requests/{job}/status/stream", 200)):
            answer = http.head(path)
            assert (answer.status_code, answer.content) == (status, b"")
    finally:
        server.decoder.go_on.set()


def test_head_of_a_file_is_its_own(http: httpx.Client) -> None:
    file = http.post(RUN, json=SCENE).json()["audio"]
    answer = http.head(file["url"])
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(file["file_size"]))


def test_options_name_the_methods_of_fals_paths(http: httpx.Client) -> None:
    assert http.options(f"{QUEUE}/requests/x/status").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert http.options(f"{QUEUE}/requests/x/status/stream").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert http.options(RUN).headers["allow"] == "OPTIONS, POST"


def test_a_clip_without_its_transcript_is_refused_with_what_is_missing(http: httpx.Client) -> None:
    clip = {"speaker_id": 1, "audio_url": "data:audio/wav;base64,AAAA"}
    for prompt in ({}, {"prompt": ""}, {"prompt": None}):
        answer = http.post(RUN, json=SCENE | {"context": [clip | prompt]})
        [problem] = answer.json()["detail"]
        assert (answer.status_code, problem["loc"]) == (422, ["body", "context", 0, "prompt"])
        assert "the transcript of this clip, the words spoken in it" in problem["msg"]


@pytest.mark.parametrize(("wish", "media_type", "seconds"), [
    ({"output_format": "mp3"}, "audio/mpeg", 0.16),
    ({"output_format": "opus", "sample_rate": 16_000}, "audio/ogg", 0.16),
    ({"output_format": "mulaw"}, "audio/basic", 0.16),
])  # fmt: skip
def test_the_file_comes_in_the_format_that_is_asked_for(
    http: httpx.Client, wish: dict[str, Any], media_type: str, seconds: float
) -> None:
    file = http.post(RUN, json=SCENE | wish).json()["audio"]
    answer = http.get(file["url"])
    assert (answer.headers["content-type"], file["content_type"]) == (media_type, media_type)
    rate = 8000 if wish["output_format"] == "mulaw" else 24_000
    assert len(decoded(wish["output_format"], answer.content, rate)) == pytest.approx(rate * seconds, abs=2)


def test_a_rate_that_the_format_lacks_is_refused_at_its_place(http: httpx.Client) -> None:
    answer = http.post(QUEUE, json=SCENE | {"output_format": "opus", "sample_rate": 44_100})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "sample_rate"])
