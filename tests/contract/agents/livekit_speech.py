"""LiveKit's plugins for both dialects, as they are, driven without LiveKit's cloud.

Prints one JSON object a line: what each way of speaking gave. Run by test_agents.py in an environment of its own.
"""

import asyncio
import json
import sys
from typing import Any

import aiohttp
from livekit.agents import tts
from livekit.plugins import elevenlabs, openai

SENTENCES = "One two three four five. Six seven eight nine ten."


def told(way: str, events: list[tts.SynthesizedAudio], **more: Any) -> None:
    samples = sum(event.frame.samples_per_channel for event in events)
    rate = events[0].frame.sample_rate if events else 0
    result = {"way": way, "seconds": samples / rate if rate else 0, "rate": rate, **more}
    sys.stdout.write(f"{json.dumps(result)}\n")


async def spoken_whole(way: str, client: tts.TTS) -> None:
    async with client.synthesize(SENTENCES) as stream:
        told(way, [event async for event in stream])


async def spoken_by_word(way: str, client: tts.TTS) -> None:
    async with client.stream() as stream:
        for word in SENTENCES.split(" "):
            stream.push_text(f"{word} ")
        stream.end_input()
        events = [event async for event in stream]
    words = [word for event in events for word in event.frame.userdata.get("lk.timed_transcripts", [])]
    told(way, events, text="".join(words), ends=[float(word.end_time or 0) for word in words])


async def interrupted(client: tts.TTS) -> None:
    """Speech is broken off, and the next is heard on the same socket."""
    async with client.stream() as stream:
        stream.push_text("Please waitforever and ever now. ")
        stream.flush()
        await asyncio.sleep(0.5)
    await spoken_by_word("after a barge-in", client)


async def main(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        named: dict[str, Any] = {"api_key": "none", "base_url": f"{url}/v1", "http_session": session}
        await spoken_whole("elevenlabs", elevenlabs.TTS(**named))
        for way, more in (
            ("elevenlabs by sentence", {}),
            ("elevenlabs by word", {"auto_mode": False}),
            ("elevenlabs pcm", {"encoding": "pcm_24000"}),
        ):
            client = elevenlabs.TTS(**named, **more)
            await spoken_by_word(way, client)
            await client.aclose()
        client = elevenlabs.TTS(**named)
        result = {"way": "voices", "number": len(await client.list_voices())}
        sys.stdout.write(f"{json.dumps(result)}\n")
        await interrupted(client)
        await client.aclose()
        for model in ("gpt-4o-mini-tts", "tts-1"):
            client = openai.TTS(model=model, api_key="none", base_url=f"{url}/v1")
            await spoken_whole(f"openai {model}", client)
            await client.aclose()


asyncio.run(main(sys.argv[1]))
