"""Pipecat's services for both dialects, as they are, in a pipeline without a transport.

Prints one JSON object a line: what each service gave. Run by test_agents.py in an environment of its own.
"""

import asyncio
import json
import sys
from typing import Any

import aiohttp
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from pipecat.services.elevenlabs.tts import ElevenLabsHttpTTSService, ElevenLabsTTSService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.tts_service import TextAggregationMode
from pipecat.tests.utils import SleepFrame, run_test

SENTENCES = "One two three four five. Six seven eight nine ten."


def told(way: str, frames: list[Frame], upstream: list[Frame]) -> None:
    sound = [frame for frame in frames if isinstance(frame, TTSAudioRawFrame)]
    words = [frame for frame in frames if isinstance(frame, TTSTextFrame)]
    result = {
        "way": way,
        "seconds": sum(len(frame.audio) / 2 / frame.sample_rate for frame in sound),
        "words": " ".join(frame.text for frame in words),
        "errors": [frame.error for frame in (*frames, *upstream) if isinstance(frame, ErrorFrame)],
    }
    sys.stdout.write(f"{json.dumps(result)}\n")


async def spoken(way: str, service: Any, frames: list[Frame], seconds: float = 2.5) -> None:
    # The sound is played at its own pace into nowhere, so its end must be waited for.
    down, up = await run_test(service, frames_to_send=[*frames, SleepFrame(sleep=seconds)], start_timeout=30.0)
    told(way, list(down), list(up))


def by_token() -> list[Frame]:
    words = [LLMTextFrame(f"{word} ") for word in SENTENCES.split(" ")]
    return [LLMFullResponseStartFrame(), *words, LLMFullResponseEndFrame()]


async def main(url: str) -> None:
    socket = {"api_key": "none", "url": url.replace("http", "ws"), "sample_rate": 24_000}
    voice = "21m00Tcm4TlvDq8ikWAM"

    def sockets(**more: Any) -> ElevenLabsTTSService:
        return ElevenLabsTTSService(settings=ElevenLabsTTSService.Settings(voice=voice), **socket, **more)

    await spoken("elevenlabs by sentence", sockets(), by_token())
    await spoken("elevenlabs by token", sockets(text_aggregation_mode=TextAggregationMode.TOKEN), by_token())
    barge_in = [TTSSpeakFrame("Please waitforever and ever now."), SleepFrame(sleep=0.5), InterruptionFrame()]
    await spoken("elevenlabs after a barge-in", sockets(), [*barge_in, *by_token()])
    async with aiohttp.ClientSession() as session:
        http = ElevenLabsHttpTTSService(
            api_key="none",
            base_url=url,
            aiohttp_session=session,
            sample_rate=24_000,
            settings=ElevenLabsHttpTTSService.Settings(voice=voice),
        )
        await spoken("elevenlabs http", http, [TTSSpeakFrame(SENTENCES)])
    openai = OpenAITTSService(
        api_key="none",
        base_url=f"{url}/v1",
        sample_rate=24_000,
        settings=OpenAITTSService.Settings(voice="alloy"),
    )
    await spoken("openai", openai, [TTSSpeakFrame(SENTENCES)])


asyncio.run(main(sys.argv[1]))
