"""The engine on its thread, as asyncio sees it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from serve_app.engine.service import TokenService
from serve_app.errors import ContextTooLong, GenerationFailed, StartupError
from serve_app.messages import Accepted, GenerationRequest, SamplingParams, TokenFrames
from serve_app.settings import EngineSettings, Settings, StandInSettings


@pytest_asyncio.fixture
async def service(tiny_checkpoint_folder: Path, tmp_path: Path) -> AsyncGenerator[TokenService, None]:
    engine = EngineSettings(max_batch_size=2, threads=1)
    service = TokenService.load(Settings(model=str(tiny_checkpoint_folder), data_dir=tmp_path, engine=engine))
    yield service
    service.stop()


def asked(text: str = "Hello.", max_frames: int = 20) -> GenerationRequest:
    return GenerationRequest("r", text, 0, sampling=SamplingParams(max_frames=max_frames, seed=4))


async def test_a_stream_opens_with_accepted_and_ends_with_finish(service: TokenService) -> None:
    await service.warm_up()
    messages = [message async for message in service.generate(asked())]
    assert isinstance(messages[0], Accepted)
    frames = [m for m in messages if isinstance(m, TokenFrames)]
    assert len(frames) == len(messages) - 1
    assert sum(m.codes.num_frames for m in frames) == 20
    assert [m.finish is not None for m in frames] == [False] * (len(frames) - 1) + [True]


async def test_leaving_a_stream_frees_its_slot(service: TokenService) -> None:
    async with aclosing(service.generate(asked(max_frames=1000))) as stream:
        await anext(stream)
        await anext(stream)
        assert (await service.stats()).running == 1
    assert (await service.stats()).running == 0


async def test_a_cancelled_task_frees_its_slot_even_before_it_was_accepted(service: TokenService) -> None:
    async def listen() -> None:
        async for _ in service.generate(asked(max_frames=1000)):
            pass

    for wait_seconds in (0, 0.001, 0.01, 0.05):
        task = asyncio.create_task(listen())
        await asyncio.sleep(wait_seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await service.stats()).running == 0


async def test_a_request_that_cannot_fit_raises_before_it_takes_a_slot(service: TokenService) -> None:
    with pytest.raises(ContextTooLong):
        await anext(service.generate(asked(text="word " * 1000)))
    assert (await service.stats()).running == 0


async def test_a_failing_model_ends_streams_and_fails_the_health_check(
    service: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.check_health()

    def broken(*_: object) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(service._engine._runner, "launch", broken)
    with pytest.raises(GenerationFailed):
        _ = [m async for m in service.generate(asked())]
    with pytest.raises(GenerationFailed, match="being replaced"):
        service.check_health()
    with pytest.raises(GenerationFailed):
        await anext(service.generate(asked()))


async def test_info_says_what_is_served(service: TokenService) -> None:
    info = await service.info()
    assert (info.weights, info.device, info.dtype, info.num_codebooks) == ("random", "cpu", "float32", 32)


def test_a_device_that_is_not_there_stops_the_start(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    settings = Settings(model=str(tiny_checkpoint_folder), data_dir=tmp_path, device="cuda")
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(StartupError, match="no CUDA device"):
        TokenService.load(settings)


def test_a_replica_shortens_the_interpreters_switch_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[float] = []
    monkeypatch.setattr("sys.setswitchinterval", asked_for.append)
    TokenService.load(Settings(model="stand-in", stand_in=StandInSettings())).stop()
    assert asked_for == [0.0005]
