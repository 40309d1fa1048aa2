"""A resumed stream rebuilds its slot's state while the others of its replica speak on."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.codec.decoder_service import DecoderService
from serve_app.messages import Accepted, AudioChunk, Codes, FinishReason, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import CodecSettings

HEARD, MATE, NEW = 1, 2, 3
"""What a frame's codes are made of: frames that were heard before, a mate's, and those still to be heard."""


class SlowSlots:
    """Remembers which frames each tick decoded; a frame's sound is its first code."""

    def __init__(self, frames_per_call: int = 1) -> None:
        self.frames_per_call = frames_per_call
        self.ticks: list[set[int]] = []
        self.sizes: list[list[int]] = []
        self._free = [0, 1]

    def open(self) -> int | None:
        return self._free.pop()

    def close(self, slot: int) -> None:
        self._free.append(slot)

    def decode(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        if frames:
            self.ticks.append({int(code) for part in frames.values() for code in part[:, 0]})
            self.sizes.append([len(part) for part in frames.values()])
            time.sleep(0.002)
        return {slot: np.repeat(part[:, 0], 1920).astype(np.int16) for slot, part in frames.items()}

    def warm_up(self) -> None:
        pass


def codes(value: int, num_frames: int) -> Codes:
    return Codes.from_array(np.full((num_frames, 2), value))


class OneByOne:
    """A resumed request's new frames come at once, anybody else's one by one."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        yield Accepted(request.request_id, 0, "fake", 0.0, 1)
        if request.resume is not None:
            yield TokenFrames(request.resume.num_frames, codes(NEW, 4), FinishReason.EOS)
            return
        for number in range(10):
            yield TokenFrames(number, codes(MATE, 1), FinishReason.EOS if number == 9 else None)

    async def info(self) -> ModelInfo:
        raise NotImplementedError


async def chunks_of(decoder: DecoderService, request: GenerationRequest, log: list[str]) -> list[AudioChunk]:
    chunks = []
    async for message in decoder.stream(request):
        log.append(f"{request.request_id} {type(message).__name__}")
        if isinstance(message, AudioChunk):
            chunks.append(message)
    return chunks


async def test_mates_speak_on_while_a_stream_replays_and_nothing_replayed_is_heard() -> None:
    slots, log = SlowSlots(), list[str]()
    decoder = DecoderService(slots, OneByOne(), CodecSettings(max_streams=2, replay_frames=250))
    resumed = GenerationRequest("resumed", "text", 0, resume=codes(HEARD, 300))
    continued = asyncio.create_task(chunks_of(decoder, resumed, log))
    while not slots.ticks:
        await asyncio.sleep(0.001)
    mate = await chunks_of(decoder, GenerationRequest("mate", "text", 0), log)
    (chunk,) = await continued
    decoder.stop()
    assert [np.frombuffer(c.pcm, np.int16)[0] for c in mate] == [MATE] * 10
    assert (chunk.first_frame, set(np.frombuffer(chunk.pcm, np.int16))) == (300, {NEW})
    assert len(chunk.pcm) == 4 * 3840
    # The listener's stream is accepted at once, and the mate was not kept waiting for its end.
    assert log == ["resumed Accepted", "mate Accepted", *["mate AudioChunk"] * 10, "resumed AudioChunk"]
    assert sum(HEARD in tick for tick in slots.ticks) == 250
    assert slots.ticks.count({HEARD, MATE}) == 10


@pytest.mark.parametrize(("heard", "num_calls"), [(250, 10), (40, 2)])
async def test_a_replay_takes_as_many_frames_a_call_as_the_codec_does(heard: int, num_calls: int) -> None:
    slots = SlowSlots(frames_per_call=25)
    decoder = DecoderService(slots, OneByOne(), CodecSettings(max_streams=1))
    resumed = GenerationRequest("resumed", "text", 0, resume=codes(HEARD, heard))
    (chunk,) = await chunks_of(decoder, resumed, [])
    decoder.stop()
    assert sum(HEARD in tick for tick in slots.ticks) == num_calls
    assert np.frombuffer(chunk.pcm, np.int16).tolist() == [NEW] * 4 * 1920


async def test_streams_share_what_the_codec_takes_in_a_call() -> None:
    slots = SlowSlots(frames_per_call=8)
    decoder = DecoderService(slots, OneByOne(), CodecSettings(max_streams=2))
    resumed = GenerationRequest("resumed", "text", 0, resume=codes(HEARD, 200))
    continued = asyncio.create_task(chunks_of(decoder, resumed, []))
    while not slots.ticks:
        await asyncio.sleep(0.001)
    await chunks_of(decoder, GenerationRequest("mate", "text", 0), [])
    await continued
    decoder.stop()
    alone, together = ([sizes for sizes in slots.sizes if len(sizes) == number] for number in (1, 2))
    assert max(alone) == [8] and sum(map(sum, slots.sizes)) == 200 + 4 + 10
    assert together and all(sizes == [4, 1] for sizes in together)


async def test_a_stream_that_leaves_while_it_replays_frees_its_slot() -> None:
    decoder = DecoderService(SlowSlots(), OneByOne(), CodecSettings(max_streams=2))
    stream = decoder.stream(GenerationRequest("resumed", "text", 0, resume=codes(HEARD, 250)))
    assert isinstance(await anext(stream), Accepted)
    assert await decoder.num_streams() == 1
    await stream.aclose()
    assert await decoder.num_streams() == 0
    decoder.stop()
