"""Streams that want a decoder slot and find none: they are counted, since they are demand."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.stand_in import StandInSlots
from serve_app.errors import Overloaded
from serve_app.messages import Accepted, AudioChunk, Codes, FinishReason, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import CodecSettings, StandInSettings


class Generator:
    """Accepts at once, and speaks one frame when it may."""

    def __init__(self) -> None:
        self.may_speak = asyncio.Event()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        yield Accepted(request.request_id, 0, "fake", 0.0, 1)
        await self.may_speak.wait()
        yield TokenFrames(0, Codes.from_array(np.ones((1, 32), np.int64)), FinishReason.LENGTH)

    async def info(self) -> ModelInfo:
        raise NotImplementedError


async def listen(service: DecoderService, name: str) -> list[Accepted | AudioChunk]:
    return [message async for message in service.stream(GenerationRequest(name, "text", 0))]


async def test_who_waits_and_who_was_refused_is_counted_and_a_longer_patience_helps_the_next() -> None:
    generator = Generator()
    settings = CodecSettings(max_streams=1, max_wait_seconds=0.05)
    service = DecoderService(StandInSlots(StandInSettings(), 1), generator, settings)
    first = asyncio.create_task(listen(service, "first"))
    await asyncio.sleep(0.02)
    with pytest.raises(Overloaded):
        await listen(service, "second")
    service.reconfigure(settings.model_copy(update={"max_wait_seconds": 30}))
    third = asyncio.create_task(listen(service, "third"))
    await asyncio.sleep(0.1)
    stats = await service.stats()
    assert (stats.busy, stats.waiting, stats.refused, stats.streams) == (1, 1, 1, 2)
    generator.may_speak.set()
    assert len(await first) == len(await third) == 2
    stats = await service.stats()
    assert (stats.busy, stats.waiting, stats.refused) == (0, 0, 1)
    service.stop()
