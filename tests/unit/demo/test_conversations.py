"""Conversations over real HTTP and a real engine, on two ingresses that share only the database."""

import base64
import threading

import httpx
import numpy as np
import pytest

from tests.support.api_harness import wav
from tests.support.demo_server import DemoServer

HELLO = {"text": "Good morning.", "seed": 1, "format": "pcm"}
LONG = "One two three four five six seven eight nine ten. " * 6
"""Longer than a stream runs ahead of its listener, so that it is still being spoken while a test goes on."""
REPLY = {"text": "Nice to see you.", "seed": 2, "format": "pcm"}


def post(url: str, path: str, body: object = None) -> httpx.Response:
    return httpx.post(f"{url}/v1/conversations{path}", json=body, timeout=60)


def begun(url: str, body: object = None) -> str:
    answer = post(url, "", body or {})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def seen(url: str, conversation: str) -> dict:  # type: ignore[type-arg]
    return httpx.get(f"{url}/v1/conversations/{conversation}").json()


def test_any_ingress_takes_the_next_turn_and_conditions_it_on_the_earlier_ones(server: DemoServer) -> None:
    first, second = server.urls
    conversation = begun(first)
    hello = post(first, f"/{conversation}/turns", HELLO)
    assert (hello.status_code, hello.headers["x-csm-turn"]) == (200, "0")
    heard = {"text": "Hi there.", "speaker": 1, "audio": base64.b64encode(wav()).decode()}
    assert post(second, f"/{conversation}/turns", heard).status_code == 201
    reply = post(second, f"/{conversation}/turns", REPLY | {"streaming": True})
    assert reply.headers["x-csm-turn"] == "2"
    turns = seen(first, conversation)["turns"]
    assert [(turn["kind"], turn["speaker"]) for turn in turns] == [("spoken", 0), ("heard", 1), ("spoken", 0)]
    assert turns[2]["frames"] * 3840 <= len(reply.content)
    assert turns[2]["prompt_positions"] > turns[0]["prompt_positions"] + turns[0]["frames"] + turns[1]["frames"]


def test_a_conversation_sounds_like_one_with_the_same_turns_in_a_portable_state(server: DemoServer) -> None:
    url, other = server.urls
    conversation = begun(url)
    post(url, f"/{conversation}/turns", HELLO)
    state = httpx.get(f"{url}/v1/conversations/{conversation}/state").json()["state"]
    again = begun(other, {"state": state})
    one, two = (post(url, f"/{each}/turns", REPLY).content for each in (conversation, again))
    assert one == two
    assert post(url, "", {"state": state[:-2] + "xx"}).json()["field"] == "state"


def test_a_turn_beside_another_is_a_conflict(server: DemoServer) -> None:
    url = server.url
    conversation = begun(url)
    body = {"text": LONG, "streaming": True, "format": "pcm"}
    with httpx.stream("POST", f"{url}/v1/conversations/{conversation}/turns", json=body, timeout=60) as speaking:
        sound = speaking.iter_bytes()
        assert next(sound)
        refused = post(server.urls[1], f"/{conversation}/turns", HELLO)
        assert refused.status_code == 409
        assert "another turn" in refused.json()["detail"]
        assert b"".join(sound)
    assert post(url, f"/{conversation}/turns", HELLO).status_code == 200


def test_an_interrupted_turn_is_believed_up_to_the_frame_that_was_heard(server: DemoServer) -> None:
    url = server.url
    conversation = begun(url)
    post(url, f"/{conversation}/turns", {"text": "One two three four five six.", "seed": 1})
    (whole,) = seen(url, conversation)["turns"]
    cut = post(url, f"/{conversation}/turns/0/played", {"played_ms": 801}).json()
    assert cut["frames"] == 11 < whole["frames"]
    assert whole["heard_text"].startswith("One two")
    assert 0 < len(cut["heard_text"]) < len(whole["heard_text"])
    assert post(url, f"/{conversation}/turns/0/played", {"played_ms": 5000}).json()["frames"] == 11
    assert post(url, f"/{conversation}/turns/7/played", {"played_ms": 1}).status_code == 422


def test_a_client_that_leaves_frees_the_place_and_what_was_sent_is_kept(server: DemoServer) -> None:
    url = server.url
    conversation = begun(url)
    body = {"text": LONG, "streaming": True, "format": "pcm"}
    with httpx.stream("POST", f"{url}/v1/conversations/{conversation}/turns", json=body, timeout=60) as speaking:
        next(speaking.iter_bytes())
    done = threading.Event()
    for _ in range(200):
        if seen(url, conversation)["turns"]:
            break
        done.wait(0.05)
    answer = post(url, f"/{conversation}/turns", HELLO)
    assert (answer.status_code, answer.headers["x-csm-turn"]) == (200, "1")


def test_prepare_reads_the_conversation_so_that_the_next_turn_finds_it_in_the_prefix_cache(
    server: DemoServer,
) -> None:
    url = server.url
    state = ""
    conversation = begun(url)
    post(url, f"/{conversation}/turns", HELLO | {"seed": 77})
    clip = (np.sin(np.arange(48_000) / 9) * 9000).astype("<i2")
    heard = {"text": "A tone.", "speaker": 1, "audio": base64.b64encode(_wav_of(clip)).decode()}
    post(url, f"/{conversation}/turns", heard)
    assert state == ""
    positions = post(url, f"/{conversation}/prepare").json()["prompt_positions"]
    restored = server.run(server.tokens.stats()).restored_positions
    answer = post(url, f"/{conversation}/turns", REPLY)
    assert answer.status_code == 200
    gained = server.run(server.tokens.stats()).restored_positions - restored
    assert gained >= positions - 10


def test_bad_turns_and_strangers_ids(server: DemoServer) -> None:
    url = server.url
    conversation = begun(url)
    assert post(url, f"/{conversation}/turns", {}).json()["field"] == "text"
    assert (
        post(url, f"/{conversation}/turns", {"text": "x", "context": [{"audio": "", "text": "y"}]}).status_code == 422
    )
    assert post(url, "/nothing/turns", HELLO).status_code == 404
    assert httpx.delete(f"{url}/v1/conversations/{conversation}").status_code == 204
    gone = httpx.get(f"{url}/v1/conversations/{conversation}")
    assert (gone.status_code, "detail" in gone.json()) == (404, True)


@pytest.mark.parametrize("body", ['{"context": 3}', "[1]", "{"])
def test_a_body_that_makes_no_sense_is_refused(server: DemoServer, body: str) -> None:
    assert httpx.post(f"{server.url}/v1/conversations", content=body).status_code == 422


def _wav_of(samples: "np.ndarray") -> bytes:  # type: ignore[type-arg]
    import io
    import wave

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()
