"""The engine on its thread, as asyncio sees it, on the card."""

import asyncio
from contextlib import aclosing

import pytest

from serve_app.engine.service import TokenService
from serve_app.engine.steps.choice import StepName
from serve_app.messages import Accepted, GenerationRequest, TokenFrames
from tests.support.gpu_engine import GpuEngine, asked


async def heard(service: TokenService, request: GenerationRequest) -> bytes:
    """All codes of a stream, which opens and ends as it must."""
    messages = [message async for message in service.generate(request)]
    assert isinstance(messages[0], Accepted)
    frames = [message for message in messages if isinstance(message, TokenFrames)]
    assert [message.finish is not None for message in frames] == [False] * (len(frames) - 1) + [True]
    return b"".join(message.codes.data for message in frames)


@pytest.mark.parametrize("step", ["graphs", "fused"])
def test_streams_from_end_to_end(step: StepName) -> None:
    engine = GpuEngine(step)
    service = TokenService(engine.parts, engine.settings)

    async def run() -> None:
        await service.warm_up()
        requests = [asked(f"Number {n}.", 12, seed=n) for n in range(10)]
        together = await asyncio.gather(*(heard(service, request) for request in requests))
        assert [len(codes) for codes in together] == [2 * 32 * 12] * 10
        assert len(set(together)) == 10
        async with aclosing(service.generate(asked("Nobody hears the end.", 200))) as stream:
            await anext(stream)
            await anext(stream)
            assert (await service.stats()).running == 1
        assert (await service.stats()).running == 0
        alone = [await heard(service, requests[3]) for _ in range(2)]
        assert alone[0] == alone[1]
        service.check_health()

    try:
        asyncio.run(run())
    finally:
        service.stop()
