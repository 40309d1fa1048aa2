"""The WebSocket over a real engine: text word by word, barge-in, a lost socket, a drain."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from serve_app.api.realtime.messages import OUTGOING
from tests.support.api_harness import wav
from tests.support.demo_server import DemoServer
from tests.support.waiting import until

LONG = "One two three four five six seven eight nine ten. " * 6
"""Longer than a stream runs ahead of its listener, so that it is still being spoken while a test goes on."""


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.conversation = ""

    async def send(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All messages up to the first of this kind, each checked against the published union."""
        messages: list[dict[str, Any]] = []
        while not messages or messages[-1]["type"] != kind:
            async with asyncio.timeout(60):
                messages.append(json.loads(await self._socket.recv()))
            OUTGOING.validate_python(messages[-1])
            assert messages[-1]["type"] != "error" or kind == "error", messages[-1]
        return messages

    async def until_any(self, *kinds: str) -> dict[str, Any]:
        """The first message of any of these kinds."""
        while True:
            async with asyncio.timeout(60):
                message = json.loads(await self._socket.recv())
            if message["type"] in kinds:
                return message

    async def say(self, text: str) -> list[dict[str, Any]]:
        """A turn word by word."""
        for word in text.split():
            await self.send("text", text=f"{word} ")
        await self.send("end")
        return await self.until("turn.ended")


@asynccontextmanager
async def client(url: str, **begin: object) -> AsyncGenerator[Client, None]:
    async with connect(f"{url.replace('http', 'ws')}/v1/realtime/speech") as socket:
        one = Client(socket)
        await one.send("begin", **({"seed": 5} | begin))
        (ready,) = await one.until("ready")
        one.conversation = ready["conversation_id"]
        yield one


def sound(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(message["audio"]) for message in messages if message["type"] == "audio")


def turns(server: DemoServer, conversation: str) -> list[dict[str, Any]]:
    return httpx.get(f"{server.url}/v1/conversations/{conversation}").json()["turns"]


async def test_words_are_spoken_as_one_turn_after_another_and_the_frames_are_gapless(server: DemoServer) -> None:
    async with client(server.url) as one:
        first = await one.say("Good morning to you all. How are you today?")
        audio = [message for message in first if message["type"] == "audio"]
        assert [m["first_frame"] for m in audio[1:]] == [m["first_frame"] + m["frames"] for m in audio[:-1]]
        assert first[0]["type"] == "turn.began"
        assert len(sound(first)) == 3840 * first[-1]["frames"] > 0
        second = await one.say("Nice to see you.")
        assert (first[-1]["turn"], second[-1]["turn"]) == (0, 1)
        assert second[0]["prompt_positions"] > first[0]["prompt_positions"]
    found = await asyncio.to_thread(turns, server, one.conversation)
    assert [turn["text"] for turn in found][1].lower().startswith("nice to see you")


async def test_speech_leaves_before_the_text_is_complete(server: DemoServer) -> None:
    async with client(server.url) as one:
        await one.send("text", text="Good morning to you all. How")
        messages = await one.until("audio")
        assert messages[0]["type"] == "turn.began"
        await one.send("end")
        await one.until("turn.ended")


async def test_barge_in_cuts_the_turn_to_what_was_heard_and_the_next_turn_goes_on(server: DemoServer) -> None:
    async with client(server.url) as one:
        await one.send("text", text=LONG)
        await one.send("end")
        for _ in range(6):
            await one.until("audio")
        await one.send("cancel", played_ms=170)
        ended = (await one.until("turn.ended"))[-1]
        assert ended["finish_reason"] == "cancelled"
        await one.send("heard", text="Wait a moment.", audio=base64.b64encode(wav()).decode())
        assert (await one.until("heard"))[-1]["turn"] == 1
        await one.send("prepare")
        assert (await one.until("prepared"))[-1]["prompt_positions"] > 0
        assert (await one.say("All right."))[-1]["turn"] == 2
    found = await asyncio.to_thread(turns, server, one.conversation)
    assert found[0]["frames"] == 3
    assert len(found[0]["heard_text"]) < len(LONG) / 2


async def test_a_lost_socket_frees_everything_and_another_ingress_goes_on_from_the_frame(server: DemoServer) -> None:
    async with client(server.url) as one:
        await one.send("text", text=LONG)
        await one.send("end")
        began = (await one.until("turn.began"))[-1]
        first = [(await one.until("audio"))[-1] for _ in range(3)]
    await asyncio.to_thread(until, lambda: server.num_running() == 0, "every slot is free")
    missing = first[1]["first_frame"]
    async with connect(f"{server.urls[1].replace('http', 'ws')}/v1/realtime/speech") as socket:
        again = Client(socket)
        await again.send("resume", conversation_id=one.conversation, request_id=began["request_id"], from_frame=missing)
        messages = await again.until("turn.ended")
        heard = sound(messages)
        assert heard.startswith(b"".join(base64.b64decode(message["audio"]) for message in first[1:]))
        assert (await again.say("And so on."))[-1]["turn"] == 1


async def test_word_times_follow_the_audio(server: DemoServer) -> None:
    async with client(server.url, words=True) as one:
        messages = await one.say("Good morning to you all.")
        if messages[-1]["type"] != "words" and not any(message["type"] == "words" for message in messages):
            messages += await one.until("words")
        (words,) = [message["words"] for message in messages if message["type"] == "words"]
        assert [word["text"].lower().strip(".") for word in words] == ["good", "morning", "to", "you", "all"]
        ends = [word["end_ms"] for word in words]
        frames = next(message["frames"] for message in messages if message["type"] == "turn.ended")
        assert ends == sorted(ends)
        assert 0 < ends[0] < ends[-1] <= 80 * frames


async def test_bad_messages_are_answered_and_the_socket_stays_open(server: DemoServer) -> None:
    async with client(server.url) as one:
        for kind, fields, field in (
            ("nonsense", {}, "type"),
            ("text", {"txt": "x"}, "text"),
            ("begin", {}, "type"),
            ("cancel", {}, "type"),
        ):
            await one.send(kind, **fields)
            error = (await one.until("error"))[-1]
            assert error["field"] == field, error
        await one.send("ping")
        assert [message["type"] for message in await one.until("pong")] == ["pong"]
        await one.send("end")
        await one.send("text", text="Still here.")
        await one.send("end")
        await one.until("turn.ended")


async def test_the_published_schema_names_every_message(server: DemoServer) -> None:
    schema = (await asyncio.to_thread(httpx.get, f"{server.url}/v1/realtime/schema")).json()
    assert "prepare" in schema["incoming"]["discriminator"]["mapping"]
    assert "reconnect" in schema["outgoing"]["discriminator"]["mapping"]
