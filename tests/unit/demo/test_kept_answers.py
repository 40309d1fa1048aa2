"""Answers had again over real HTTP, from a real engine and codec that speak the demo voice."""

import io
import wave

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from serve_app.cli.main import app
from tests.support.demo_server import DemoServer

SCENE = {
    "scene": [{"text": "Good morning. How are you?", "speaker": 0}, {"text": "All is well.", "speaker": 1}],
    "seed": 3,
    "format": "pcm",
}


@pytest.fixture(scope="module")
def spoken(server: DemoServer) -> tuple[str, bytes]:
    """The id of an answer, and its samples as they were sent."""
    answer = httpx.post(f"{server.url}/generate", json=SCENE | {"streaming": True}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-csm-request-id"], answer.content


def get(server: DemoServer, request_id: str, what: str, **query: object) -> httpx.Response:
    return httpx.get(f"{server.url}/requests/{request_id}/{what}", params=query, timeout=60)  # type: ignore[arg-type]


def test_the_samples_are_those_that_were_sent_and_the_generator_does_nothing(
    server: DemoServer, spoken: tuple[str, bytes]
) -> None:
    request_id, pcm = spoken
    steps = server.run(server.tokens.stats())
    assert get(server, request_id, "audio", format="pcm").content == pcm
    other = httpx.get(f"{server.urls[1]}/requests/{request_id}/audio", timeout=60)
    with wave.open(io.BytesIO(other.content)) as file:
        assert file.readframes(file.getnframes()) == pcm
    assert server.run(server.tokens.stats()) == steps


def test_another_format_and_rate(server: DemoServer, spoken: tuple[str, bytes]) -> None:
    answer = get(server, spoken[0], "audio", format="mulaw")
    assert answer.headers["x-csm-sample-rate"] == "8000"
    assert len(answer.content) == pytest.approx(len(spoken[1]) / 6, rel=0.01)
    assert get(server, spoken[0], "audio", format="nonsense").status_code == 422


def test_turns_and_stems_add_up_to_the_whole(server: DemoServer, spoken: tuple[str, bytes]) -> None:
    request_id, pcm = spoken
    turns = [get(server, request_id, "audio", format="pcm", turn=turn).content for turn in (0, 1)]
    assert b"".join(turns) == pcm
    stems = [get(server, request_id, "audio", format="pcm", speaker=speaker).content for speaker in (0, 1)]
    mixed = sum(np.frombuffer(stem, "<i2").astype(int) for stem in stems)
    assert np.array_equal(mixed, np.frombuffer(pcm, "<i2"))
    assert get(server, request_id, "audio", speaker=7).status_code == 422


def test_the_timeline_says_where_each_turn_lies(server: DemoServer, spoken: tuple[str, bytes]) -> None:
    lines = get(server, spoken[0], "timeline").json()["lines"]
    first = get(server, spoken[0], "audio", format="pcm", turn=0).content
    assert [line["text"] for line in lines] == [turn["text"] for turn in SCENE["scene"]]  # type: ignore[index]
    assert lines[1]["first_frame"] * 3840 == len(first)
    parts = get(server, spoken[0], "timeline", by="part").json()["lines"]
    assert [part["first_frame"] for part in parts if part["turn"] == 1] == [lines[1]["first_frame"]]
    assert get(server, spoken[0], "timeline", format="vtt").text.startswith("WEBVTT")


def test_a_replay_gives_equal_codes_and_the_command_says_so(server: DemoServer, spoken: tuple[str, bytes]) -> None:
    receipt = get(server, spoken[0], "receipt").json()
    assert receipt["seed"] == 3
    assert receipt["model"]["checkpoint"]
    done = CliRunner().invoke(app, ["replay", spoken[0], "--url", server.urls[1]])
    assert (done.exit_code, done.output) == (0, f"equal: {receipt['frames']} frames\n")
    assert CliRunner().invoke(app, ["replay", "nothing", "--url", server.url]).exit_code == 2


def test_a_regenerated_turn_leaves_the_others_as_they_were(server: DemoServer, spoken: tuple[str, bytes]) -> None:
    answer = httpx.post(f"{server.url}/requests/{spoken[0]}/turns/1/regenerate", json={"seed": 99}, timeout=60).json()
    new = answer["request_id"]
    before, after = (
        [get(server, one, "audio", format="pcm", turn=turn).content for turn in (0, 1)] for one in (spoken[0], new)
    )
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert answer["notes"]["regenerated_turn"] == 1
    assert httpx.post(f"{server.url}/requests/{new}/replay", timeout=60).status_code == 422


def test_a_deleted_record_is_gone(server: DemoServer) -> None:
    answer = httpx.post(f"{server.url}/generate", json={"text": "Gone.", "seed": 1}, timeout=60)
    request_id = answer.headers["x-csm-request-id"]
    assert get(server, request_id, "receipt").status_code == 200
    assert httpx.delete(f"{server.url}/requests/{request_id}").status_code == 204
    assert get(server, request_id, "receipt").status_code == 404
