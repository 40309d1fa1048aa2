"""Turns of conversations heed `voice` and `adapter`, over HTTP and over the WebSocket."""

import base64
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

import serve_app
from tests.listener import pitch_hz
from tests.support.demo_server import DemoServer
from tests.unit.demo.test_conversations import begun, post
from tests.unit.demo.test_speech_socket import Client, client, sound

PROMPTS = Path(serve_app.__file__).parent / "demo_voice" / "prompts"
TEXT = "Good morning to you all."


@pytest.fixture(scope="module")
def high(server: DemoServer) -> str:
    """The name of a kept voice that is an octave above that of speaker 0."""
    clip = {
        "text": (PROMPTS / "conversational_b.txt").read_text().strip(),
        "audio": base64.b64encode((PROMPTS / "conversational_b.wav").read_bytes()).decode(),
    }
    consent = {"statement": "A robot agrees.", "by": "its makers"}
    body = {"name": "High", "clips": [clip], "consent": consent, "audition": False}
    answer = httpx.post(f"{server.url}/voices", json=body, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["name"]


def test_a_turn_over_http_has_the_voice_that_it_names(server: DemoServer, high: str) -> None:
    conversation = begun(server.url)
    turn = {"text": TEXT, "seed": 1, "format": "pcm"}
    spoken = post(server.url, f"/{conversation}/turns", turn | {"voice": high})
    assert spoken.status_code == 200, spoken.text
    assert pitch_hz(spoken.content) == pytest.approx(200, rel=0.03)
    plain = post(server.url, f"/{begun(server.url)}/turns", turn)
    assert pitch_hz(plain.content) == pytest.approx(100, rel=0.03)


async def test_all_turns_of_a_socket_have_the_voice_that_it_names(server: DemoServer, high: str) -> None:
    async with client(server.url, voice=high) as one:
        await one.send("prepare")
        assert (await one.until("prepared"))[-1]["prompt_positions"] > 0
        for _ in range(2):
            assert pitch_hz(sound(await one.say(TEXT))) == pytest.approx(200, rel=0.03)


@pytest.mark.parametrize("field", ["voice", "adapter"])
async def test_what_is_not_there_is_refused_by_its_name(server: DemoServer, field: str) -> None:
    conversation = begun(server.url)
    turn = post(server.url, f"/{conversation}/turns", {"text": TEXT, field: "nobody"})
    prepared = post(server.url, f"/{conversation}/prepare?{field}=nobody")
    for answer in (turn, prepared):
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    async with connect(f"{server.url.replace('http', 'ws')}/v1/realtime/speech") as socket:
        one = Client(socket)
        await one.send("begin", **{field: "nobody"})
        assert (await one.until("error"))[-1]["field"] == field
