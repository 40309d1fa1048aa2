"""wyoming_openai, Home Assistant's way to OpenAI's API, as it is: it is asked as Home Assistant asks it.

Prints one JSON object a line. Run by test_agents.py in an environment of its own.
"""

import asyncio
import json
import socket
import sys

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize, SynthesizeVoice

SENTENCES = "One two three four five. Six seven eight nine ten."


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def asked(port: int, way: str) -> None:
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Describe().event())
        while (event := await client.read_event()) and not Info.is_type(event.type):
            pass
        assert event is not None
        voices = [voice.name for program in Info.from_event(event).tts for voice in program.voices]
        await client.write_event(Synthesize(SENTENCES, voice=SynthesizeVoice(voices[0])).event())
        seconds, rate = 0.0, 0
        while (event := await client.read_event()) and not AudioStop.is_type(event.type):
            if AudioStart.is_type(event.type):
                rate = AudioStart.from_event(event).rate
            elif AudioChunk.is_type(event.type):
                seconds += AudioChunk.from_event(event).seconds
    sys.stdout.write(f"{json.dumps({'way': way, 'voices': voices, 'seconds': seconds, 'rate': rate})}\n")


async def through(url: str, way: str, *options: str) -> None:
    port = free_port()
    named = ("--uri", f"tcp://127.0.0.1:{port}", "--languages", "en", "--tts-openai-url", f"{url}/v1")
    command = (sys.executable, "-m", "wyoming_openai", *named, "--tts-models", "csm-1b", *options)
    bridge = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                await asked(port, way)
                return
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
        raise AssertionError(f"{way}: the bridge does not answer")
    finally:
        bridge.kill()
        await bridge.wait()


async def main(url: str) -> None:
    await through(url, "openai", "--tts-voices", "alloy", "echo")
    await through(url, "kokoro", "--tts-backend", "KOKORO_FASTAPI")


asyncio.run(main(sys.argv[1]))
