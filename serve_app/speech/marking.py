"""Marks speech while it is spoken: blocks are held until they are long enough to carry the watermark."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from serve_app.audio.watermark.mark import Watermark
from serve_app.messages import FRAME_RATE_HZ, FRAME_SAMPLES, Accepted, AudioChunk, Codes

Speech = AsyncGenerator[Accepted | AudioChunk, None]


async def marked(speech: Speech, watermark: Watermark) -> Speech:
    """The same speech with every sample marked, in order and in the same length. Chunks come a block later."""
    block_bytes = 2 * FRAME_SAMPLES * max(1, round(watermark.block_seconds * FRAME_RATE_HZ))
    held = bytearray()
    first_frame = 0

    async def released(chunk: AudioChunk, pcm: bytes) -> AudioChunk:
        nonlocal first_frame
        sound = await asyncio.to_thread(watermark.mark, pcm) if pcm else b""
        out = replace(chunk, first_frame=first_frame, pcm=sound)
        first_frame += out.num_frames
        return out

    async with aclosing(speech) as messages:
        async for message in messages:
            if not isinstance(message, AudioChunk):
                yield message
                continue
            held += message.pcm
            if message.finish is not None:
                if held:
                    rest = replace(message, finish=None, codes=Codes.empty(message.codes.num_codebooks))
                    yield await released(rest, bytes(held))
                yield await released(replace(message, pcm=b""), b"")
                return
            ready = len(held) // block_bytes * block_bytes
            sound = bytes(held[:ready])
            del held[:ready]
            # A chunk without sound still says where its part stands.
            yield await released(message, sound)
