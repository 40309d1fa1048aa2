"""An engine that runs out of memory, or that does not come back: clear ends instead of silence."""

import threading
from collections.abc import AsyncIterator

import pytest

from serve_app.engine.service import TokenService
from serve_app.errors import GenerationFailed, ReplicaLost, StartupError
from serve_app.messages import GenerationRequest, SamplingParams
from serve_app.settings import EngineSettings, Settings, StandInSettings


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


@pytest.fixture
async def service() -> AsyncIterator[TokenService]:
    engine = EngineSettings(max_batch_size=2, stuck_seconds=0.2)
    service = TokenService.load(Settings(model="stand-in", stand_in=StandInSettings(), engine=engine))
    yield service
    service.stop()


def asked() -> GenerationRequest:
    return GenerationRequest("r", "Hello.", 0, sampling=SamplingParams(max_frames=20))


def out_of_memory(*_: object) -> None:
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


async def test_a_warm_up_that_runs_out_of_memory_names_the_settings(
    service: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service._engine._runner, "launch", out_of_memory)
    with pytest.raises(StartupError, match=r"Tried to allocate 2\.00 GiB.*engine\.max_batch_size"):
        await service.warm_up()


def test_a_model_that_does_not_fit_names_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.engine.stand_in.stand_in_parts", out_of_memory)
    with pytest.raises(StartupError, match=r"the generator does not fit into memory .*engine\.max_positions"):
        TokenService.load(Settings(model="stand-in", stand_in=StandInSettings()))


async def test_memory_that_runs_out_while_speaking_ends_the_streams_and_the_replica(
    service: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.warm_up()
    monkeypatch.setattr(service._engine._runner, "launch", out_of_memory)
    with pytest.raises(GenerationFailed, match="failed while speaking"):
        _ = [m async for m in service.generate(asked())]
    with pytest.raises(ReplicaLost, match="being replaced"):
        service.check_health()
    # Who comes after that did not break it: another replica may take them.
    with pytest.raises(ReplicaLost):
        await anext(service.generate(asked()))


async def test_a_step_that_does_not_end_ends_the_streams_and_the_replica(
    service: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        entered.set()
        gate.wait(30)
        raise RuntimeError("gone")

    monkeypatch.setattr(service._engine._runner, "launch", hang)
    with pytest.raises(GenerationFailed, match="failed while speaking"):
        async for _ in service.generate(asked()):
            while not entered.wait(0.01):
                pass
            entered.clear()
            monkeypatch.setattr(service._thread, "_stuck_seconds", 0.0)
            with pytest.raises(ReplicaLost):
                service.check_health()
    gate.set()
