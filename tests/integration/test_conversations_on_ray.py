"""Conversations, their WebSocket, the aligner and kept answers through the whole graph: real Ray, real proxy."""

import asyncio
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.support.ray_server import Server, shared_ray
from tests.unit.demo.test_speech_socket import Client, client, sound

TURN: dict[str, Any] = {"text": "Good morning to you.", "seed": 3, "format": "pcm", "max_audio_seconds": 2}
LONG = "One two three four five six seven eight nine ten. " * 20


def post(server: Server, path: str, body: object = None) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/conversations{path}", json=body, timeout=60)


def test_each_turn_is_conditioned_on_the_one_before(server: Server) -> None:
    conversation = post(server, "", {}).json()["id"]
    first = post(server, f"/{conversation}/turns", TURN)
    assert (first.status_code, first.headers["x-csm-turn"]) == (200, "0"), first.text
    assert post(server, f"/{conversation}/prepare").json()["prompt_positions"] > 0
    second = post(server, f"/{conversation}/turns", TURN | {"streaming": True})
    assert second.headers["x-csm-turn"] == "1"
    (one, two) = httpx.get(f"{server.url}/v1/conversations/{conversation}").json()["turns"]
    assert two["prompt_positions"] >= one["prompt_positions"] + one["frames"]
    assert second.content != first.content


def test_a_kept_answer_is_decoded_again_and_replayed(server: Server) -> None:
    spoken = httpx.post(f"{server.url}/generate", json=TURN, timeout=60)
    kept = f"{server.url}/requests/{spoken.headers['x-csm-request-id']}"
    assert httpx.get(f"{kept}/audio?format=pcm", timeout=60).content == spoken.content
    replay = httpx.post(f"{kept}/replay", timeout=60).json()
    assert (replay["equal"], replay["frames"]) == (True, len(spoken.content) // 3840)


async def test_a_socket_is_spoken_to_word_by_word_and_told_when_each_is_heard(server: Server) -> None:
    async with client(server.url, words=True) as one:
        await one.send("prepare")
        await one.until("prepared")
        messages = await one.say("Good morning to you.")
        if not any(message["type"] == "words" for message in messages):
            messages += await one.until("words")  # the aligner's first replica starts now
    (words,) = [message["words"] for message in messages if message["type"] == "words"]
    assert [word["text"].strip(".").lower() for word in words] == ["good", "morning", "to", "you"]
    (ended,) = [message for message in messages if message["type"] == "turn.ended"]
    assert len(sound(messages)) == 3840 * ended["frames"] > 0


async def test_a_lost_socket_is_gone_on_with(server: Server) -> None:
    async with client(server.url) as one:
        await one.send("text", text="Good morning to you all. ")
        request_id = (await one.until("turn.began"))[-1]["request_id"]
        await one.until("audio")
    async with connect(f"{server.url.replace('http', 'ws')}/v1/realtime/speech") as socket:
        again = Client(socket)
        wish = {"conversation_id": one.conversation, "request_id": request_id, "from_frame": 0}
        await again.send("resume", **wish)
        messages = await again.until("turn.resumed")
        await again.send("end")
        messages += await again.until("turn.ended")
    audio = [message for message in messages if message["type"] == "audio"]
    assert [m["first_frame"] for m in audio[1:]] == [m["first_frame"] + m["frames"] for m in audio[:-1]]
    assert len(sound(messages)) == 3840 * messages[-1]["frames"]


@pytest.mark.slow  # deletes the graph, which later files would start again
async def test_a_drain_tells_the_client_to_reconnect(server: Server) -> None:
    async with client(server.url) as one:
        await one.send("text", text=LONG)
        await one.until("audio")
        deleting = asyncio.create_task(asyncio.to_thread(shared_ray.clear))
        told = (await one.until("reconnect"))[-1]
        assert told["conversation_id"] == one.conversation
        assert told["request_id"] and told["next_frame"] > 0
    await deleting
