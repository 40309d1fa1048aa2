"""A turn whose socket is lost while it is spoken goes on over another one, where it broke off."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.support.demo_server import DemoServer
from tests.support.waiting import until
from tests.unit.demo.test_speech_socket import LONG, Client, client, sound, turns


@asynccontextmanager
async def resumed(server: DemoServer, lost: Client, request_id: str, **more: Any) -> AsyncGenerator[Client, None]:
    """On the other ingress."""
    async with connect(f"{server.urls[1].replace('http', 'ws')}/v1/realtime/speech") as socket:
        again = Client(socket)
        again.conversation = lost.conversation
        wish = {"conversation_id": lost.conversation, "request_id": request_id, "from_frame": 0} | more
        await again.send("resume", **wish)
        await again.until("ready")
        yield again


async def broken_off(server: DemoServer, text: str, *, ends: bool, **begin: object) -> tuple[Client, str]:
    """A socket that was lost after the first audio of a turn, and the turn's request."""
    async with client(server.url, **begin) as one:
        await one.send("text", text=text)
        if ends:
            await one.send("end")
        began = (await one.until("turn.began"))[-1]
        await one.until("audio")
    await asyncio.to_thread(until, lambda: server.num_running() == 0, "every slot is free")
    return one, began["request_id"]


async def test_it_sounds_and_is_kept_as_if_the_socket_had_not_been_lost(server: DemoServer) -> None:
    async with client(server.url, seed=11) as one:
        whole = await one.say(LONG)
    lost, request_id = await broken_off(server, LONG, ends=True, seed=11)
    async with resumed(server, lost, request_id) as again:
        messages = await again.until("turn.ended")
        (told,) = [message for message in messages if message["type"] == "turn.resumed"]
        assert (told["turn"], told["received_chars"], told["is_complete"]) == (0, len(LONG), True)
        assert 0 < told["next_frame"] < messages[-1]["frames"]
        audio = [message for message in messages if message["type"] == "audio"]
        assert [m["first_frame"] for m in audio[1:]] == [m["first_frame"] + m["frames"] for m in audio[:-1]]
        assert messages[-1] | {"request_id": ""} == whole[-1] | {"request_id": ""}
        assert sound(messages) == sound(whole)
        assert (await again.say("And so on."))[-1]["turn"] == 1
    (turn, _) = await asyncio.to_thread(turns, server, lost.conversation)
    assert turn["text"].lower().count("ten") == 6
    kept = httpx.get(f"{server.url}/requests/{request_id}/audio?format=pcm", timeout=60)
    assert kept.content == sound(whole)
    outcome = httpx.get(f"{server.urls[1]}/requests/{request_id}").json()
    assert (outcome["finish_reason"], outcome["audio_seconds"]) == ("eos", whole[-1]["frames"] * 0.08)


async def test_text_goes_on_where_the_server_has_it(server: DemoServer) -> None:
    heard, rest = "Good morning to you all. How are", " you today?"
    lost, request_id = await broken_off(server, heard, ends=False)
    async with resumed(server, lost, request_id) as again:
        told = (await again.until("turn.resumed"))[-1]
        assert (told["received_chars"], told["is_complete"]) == (len(heard), False)
        await again.send("text", text=rest)
        await again.send("end")
        ended = (await again.until("turn.ended"))[-1]
        assert (ended["finish_reason"], ended["spoken_chars"]) == ("eos", len(heard + rest))
    (turn,) = await asyncio.to_thread(turns, server, lost.conversation)
    assert turn["text"].lower().endswith("how are you today?")


@pytest.mark.slow
async def test_it_may_break_off_again(server: DemoServer) -> None:
    async with client(server.url, seed=12) as one:
        whole = sound(await one.say(LONG))
    lost, request_id = await broken_off(server, LONG, ends=True, seed=12)
    pcm = b""
    for _ in range(2):
        async with resumed(server, lost, request_id, from_frame=len(pcm) // 3840) as again:
            pcm += sound(await again.until("turn.resumed"))
            pcm += sound(await again.until("audio"))
        await asyncio.to_thread(until, lambda: server.num_running() == 0, "every slot is free")
    async with resumed(server, lost, request_id, from_frame=len(pcm) // 3840) as again:
        pcm += sound(await again.until("turn.ended"))
    assert pcm == whole


@pytest.mark.parametrize("way", ["cancelled", "gone on"])
async def test_a_turn_that_is_over_is_sent_and_not_spoken_on(server: DemoServer, way: str) -> None:
    if way == "cancelled":
        async with client(server.url) as lost:
            await lost.send("text", text=LONG)
            request_id = (await lost.until("turn.began"))[-1]["request_id"]
            await lost.until("audio")
            await lost.send("cancel")
            await lost.until("turn.ended")
    else:
        lost, request_id = await broken_off(server, LONG, ends=True)
        async with client(server.url, conversation_id=lost.conversation) as one:
            await one.say("All right.")
    async with resumed(server, lost, request_id) as again:
        messages = await again.until("turn.ended")
        assert messages[-1]["finish_reason"] == "cancelled"
        assert len(sound(messages)) == 3840 * messages[-1]["frames"] > 0


async def test_it_goes_on_in_the_format_that_is_asked_for(server: DemoServer) -> None:
    lost, request_id = await broken_off(server, LONG, ends=True, format="mulaw", sample_rate=8000)
    async with resumed(server, lost, request_id, format="mulaw", sample_rate=8000) as again:
        messages = await again.until("turn.ended")
        assert abs(len(sound(messages)) - 640 * messages[-1]["frames"]) < 640
        first = next(message for message in messages if message["type"] == "audio")
        assert len(base64.b64decode(first["audio"])) < 3840 * first["frames"]
