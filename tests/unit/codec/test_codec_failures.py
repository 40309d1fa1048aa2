"""A codec that runs out of memory, or that does not come back: clear ends instead of silence."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import MAX_CLIPS_PER_PASS, EncoderService
from serve_app.errors import GenerationFailed, ReplicaLost, StartupError
from serve_app.messages import Accepted, Codes, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import CodecSettings, Settings, StandInSettings

REQUEST = GenerationRequest("r", "text", 0)


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


class FullSlots:
    frames_per_call = 1

    def open(self) -> int | None:
        return 0

    def close(self, slot: int) -> None:
        pass

    def decode(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        if frames:
            self.warm_up()
        return {}

    def warm_up(self) -> None:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


class Generator:
    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        yield Accepted(request.request_id, 0, "fake", 0.0, 1)
        yield TokenFrames(0, Codes.from_array(np.ones((1, 2), np.int64)))

    async def info(self) -> ModelInfo:
        raise NotImplementedError


async def test_a_decoder_that_cannot_warm_up_names_the_settings() -> None:
    decoder = DecoderService(FullSlots(), Generator(), CodecSettings())
    with pytest.raises(StartupError, match=r"audio decoder does not fit .*codec\.max_streams.*codec\.memory_fraction"):
        await decoder.warm_up()
    decoder.stop()


@pytest.mark.parametrize(("service", "part"), [(DecoderService, "StandInSlots"), (EncoderService, "StandInClips")])
def test_a_codec_that_does_not_fit_names_the_settings(
    monkeypatch: pytest.MonkeyPatch, service: type[DecoderService | EncoderService], part: str
) -> None:
    def full(*_: object) -> None:
        raise OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(f"serve_app.codec.stand_in.{part}", full)
    settings = Settings(model="stand-in", stand_in=StandInSettings())
    with pytest.raises(StartupError, match=r"does not fit into memory .*codec\.memory_fraction"):
        DecoderService.load(settings, Generator()) if service is DecoderService else EncoderService.load(settings)


async def test_memory_that_runs_out_while_decoding_ends_the_streams_and_the_replica() -> None:
    decoder = DecoderService(FullSlots(), Generator(), CodecSettings())
    with pytest.raises(GenerationFailed, match="failed while speaking"):
        _ = [message async for message in decoder.stream(REQUEST)]
    with pytest.raises(ReplicaLost, match="being replaced"):
        decoder.check_health()
    # Who comes after that did not break it: another replica may take them.
    with pytest.raises(ReplicaLost):
        _ = [message async for message in decoder.stream(REQUEST)]
    decoder.stop()


class HangingClips:
    num_hits = 0

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()

    def encode_batch(self, clips: Sequence[bytes], owners: Sequence[str] = ()) -> list[Codes]:
        self.entered.set()
        self.gate.wait(30)
        return []


async def test_an_encoder_that_does_not_come_back_fails_its_check_and_its_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips = HangingClips()
    encoder = EncoderService(clips, {}, stuck_seconds=MAX_CLIPS_PER_PASS * 60)
    waits = asyncio.create_task(encoder.encode(b"\1\2" * 1920))
    assert await asyncio.to_thread(clips.entered.wait, 5)
    encoder.check_health()  # busy
    monkeypatch.setattr(encoder._thread, "_stuck_seconds", 0.0)
    with pytest.raises(ReplicaLost, match="being replaced"):
        encoder.check_health()
    with pytest.raises(ReplicaLost):
        await waits
    clips.gate.set()
    encoder.stop()
