"""A voice agent's outer loop: it speaks its reply, stops as soon as the user says more, and remembers what was said.

Type lines in the place of speech recognition. `reply` stands for a language model. What the agent said is the context
of its next turn, so its voice and its tone go on.
"""

import asyncio
import os
import sys
import wave
from io import BytesIO

from serve_app.client import AsyncClient, Clip

MOST_REMEMBERED = 3
AGENT = 0


def reply(heard: str) -> str:
    return f"You said: {heard}"


def as_wav(pcm: bytes, sample_rate: int) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(sample_rate)
        wav.writeframes(pcm)
    return file.getvalue()


async def say(client: AsyncClient, text: str, memory: list[Clip]) -> None:
    """Hand each piece to a sound device as it comes; here it goes to a file. Cancelled, it frees its slot at once."""
    heard = b""
    async with client.stream(text, speaker=AGENT, context=memory) as stream:
        with open("agent.pcm", "ab") as device:
            async for pcm in stream:
                device.write(pcm)
                heard += pcm
    memory.append(Clip(as_wav(heard, stream.sample_rate), text, AGENT))
    del memory[:-MOST_REMEMBERED]


async def main() -> None:
    memory: list[Clip] = []
    speaking: asyncio.Task[None] | None = None
    async with AsyncClient(os.environ.get("CSM_URL", "http://localhost:8000")) as client:
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if speaking is not None and speaking.cancel():
                await asyncio.wait([speaking])
                print("(interrupted)")
            speaking = asyncio.create_task(say(client, reply(line), memory))
        if speaking is not None:
            await speaking
    print(f"remembered {len(memory)} of what it said")


asyncio.run(main())
