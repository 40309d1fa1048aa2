"""The codec on its threads: streams over a fake generator, clips over the real encoder."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from serve_app import metrics
from serve_app.audio.wav import wav_file
from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import EncoderService
from serve_app.errors import CheckpointError, GenerationFailed, Overloaded
from serve_app.messages import Accepted, AudioChunk, Codes, FinishReason, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import CodecSettings, Settings
from tests.support.recording_meter import RecordingMeter

FRAMES = np.random.default_rng(0).integers(0, 64, (40, 32))


class FakeGenerator:
    """Says the given frames, a few a message, and remembers whether its streams were closed."""

    def __init__(self, frames: NDArray[np.integer], sizes: Sequence[int], finish: FinishReason | None) -> None:
        self._frames = frames
        self._sizes = sizes
        self._finish = finish
        self.num_open = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        self.num_open += 1
        try:
            yield Accepted(request.request_id, 0, "fake", 0.0, 1)
            first = 0
            for size in self._sizes:
                await asyncio.sleep(0)
                codes = Codes.from_array(self._frames[first : first + size])
                is_last = first + size >= len(self._frames)
                yield TokenFrames(first, codes, self._finish if is_last else None)
                first += size
            await asyncio.Event().wait()
        finally:
            self.num_open -= 1

    async def info(self) -> ModelInfo:
        raise NotImplementedError


def settings(folder: Path, tmp_path: Path, **codec: float) -> Settings:
    return Settings(
        model=str(folder), data_dir=tmp_path, codec=CodecSettings(**({"threads": 1, "max_streams": 2} | codec))
    )


def service(folder: Path, tmp_path: Path, generator: FakeGenerator, **codec: float) -> DecoderService:
    return DecoderService.load(settings(folder, tmp_path, **codec), generator)


async def pcm_of(decoder: DecoderService, request: GenerationRequest) -> bytes:
    messages = [message async for message in decoder.stream(request)]
    assert isinstance(messages[0], Accepted)
    return b"".join(m.pcm for m in messages if isinstance(m, AudioChunk))


REQUEST = GenerationRequest("r", "text", 0)


@pytest.mark.parametrize("sizes", [[1] * 40, [1, 2, 4, 4, 29], [40]], ids=["ones", "growing", "whole"])
async def test_samples_do_not_depend_on_how_frames_are_grouped(
    tiny_checkpoint_folder: Path, tmp_path: Path, sizes: list[int]
) -> None:
    decoder = service(tiny_checkpoint_folder, tmp_path, FakeGenerator(FRAMES, sizes, FinishReason.EOS))
    await decoder.warm_up()
    alone = await pcm_of(decoder, REQUEST)
    one, two = await asyncio.gather(pcm_of(decoder, REQUEST), pcm_of(decoder, REQUEST))
    assert len(alone) == 40 * 3840
    assert alone == one == two
    decoder.stop()


async def test_chunks_carry_the_codes_and_the_finish(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    decoder = service(tiny_checkpoint_folder, tmp_path, FakeGenerator(FRAMES, [1, 39], FinishReason.LENGTH))
    chunks = [m async for m in decoder.stream(REQUEST) if isinstance(m, AudioChunk)]
    assert [c.first_frame for c in chunks] == [0, 1]
    assert [c.finish for c in chunks] == [None, FinishReason.LENGTH]
    assert b"".join(c.codes.data for c in chunks) == Codes.from_array(FRAMES).data
    decoder.stop()


async def test_only_a_lossy_answer_is_sent_as_opus_and_only_where_it_is_set(
    tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    for kbps, is_lossy in ((0, True), (64, False), (64, True)):
        generator = FakeGenerator(FRAMES, [1, 39], FinishReason.LENGTH)
        decoder = service(tiny_checkpoint_folder, tmp_path, generator, opus_kbps=kbps)
        messages = [message async for message in decoder.stream(replace(REQUEST, is_lossy=is_lossy))]
        chunks = [message for message in messages if isinstance(message, AudioChunk)]
        is_opus = bool(kbps) and is_lossy
        assert [len(chunk.opus) for chunk in chunks] == ([4, 4 * 39] if is_opus else [0, 0])
        assert [len(chunk.pcm) for chunk in chunks] == ([0, 0] if is_opus else [3840, 3840 * 39])
        decoder.stop()


async def test_leaving_frees_the_slot_and_closes_the_generator(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    generator = FakeGenerator(FRAMES, [4] * 10, None)
    decoder = service(tiny_checkpoint_folder, tmp_path, generator)
    async with aclosing(decoder.stream(REQUEST)) as stream:
        await anext(stream)
        await anext(stream)
        assert (await decoder.num_streams(), generator.num_open) == (1, 1)
    assert (await decoder.num_streams(), generator.num_open) == (0, 0)
    decoder.stop()


async def test_a_stream_cancelled_at_any_moment_frees_its_slot(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    generator = FakeGenerator(FRAMES, [1] * 40, None)
    decoder = service(tiny_checkpoint_folder, tmp_path, generator)
    for num_switches in range(0, 12):
        task = asyncio.create_task(pcm_of(decoder, REQUEST))
        for _ in range(num_switches):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await decoder.num_streams(), generator.num_open) == (0, 0)
    decoder.stop()


async def test_a_stream_waits_for_a_slot_and_is_refused_when_none_comes_free(
    tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    generator = FakeGenerator(FRAMES, [40], None)
    decoder = service(tiny_checkpoint_folder, tmp_path, generator, max_streams=1, max_wait_seconds=0.2)
    async with aclosing(decoder.stream(REQUEST)) as stream:
        await anext(stream)
        with pytest.raises(Overloaded):
            await anext(decoder.stream(REQUEST))
        assert generator.num_open == 1
        waits = asyncio.create_task(anext(decoder.stream(REQUEST)))
        await asyncio.sleep(0.05)
        assert not waits.done()
    assert isinstance(await waits, Accepted)
    decoder.stop()


async def test_a_silent_tail_ends_as_a_runaway(
    tiny_checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = FakeGenerator(np.tile(FRAMES, (3, 1)), [4] * 30, None)
    decoder = service(tiny_checkpoint_folder, tmp_path, generator)

    def silence(frames: dict[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        return {slot: np.zeros(1920 * len(part), np.int16) for slot, part in frames.items()}

    monkeypatch.setattr(decoder._slots, "decode", silence)
    chunks = [m async for m in decoder.stream(REQUEST) if isinstance(m, AudioChunk)]
    assert chunks[-1].finish is FinishReason.RUNAWAY
    assert sum(c.codes.num_frames for c in chunks) == 40  # 3 seconds are 37.5 frames, of 4 a message
    assert generator.num_open == 0
    decoder.stop()


async def test_a_resumed_stream_sounds_as_if_it_had_never_stopped(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    whole = await pcm_of(
        service(tiny_checkpoint_folder, tmp_path, FakeGenerator(FRAMES, [40], FinishReason.EOS)), REQUEST
    )
    rest = FakeGenerator(FRAMES[15:], [25], FinishReason.EOS)
    resumed = GenerationRequest("r", "text", 0, resume=Codes.from_array(FRAMES[:15]))
    assert await pcm_of(service(tiny_checkpoint_folder, tmp_path, rest), resumed) == whole[15 * 3840 :]


async def test_a_failing_codec_ends_its_streams_and_fails_the_health_check(
    tiny_checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = service(tiny_checkpoint_folder, tmp_path, FakeGenerator(FRAMES, [4] * 10, FinishReason.EOS))

    def broken(_: object) -> None:
        raise RuntimeError("device lost")

    decoder.check_health()
    monkeypatch.setattr(decoder._slots, "decode", broken)
    with pytest.raises(GenerationFailed):
        await pcm_of(decoder, REQUEST)
    with pytest.raises(GenerationFailed, match="being replaced"):
        decoder.check_health()
    with pytest.raises(GenerationFailed):
        await pcm_of(decoder, REQUEST)


def with_prompts(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "with-prompts"
    shutil.copytree(folder, copy)
    (copy / "prompts").mkdir()
    noise = (np.random.default_rng(1).normal(0, 3000, 1920 * 5)).astype("<i2").tobytes()
    (copy / "prompts" / "conversational_a.wav").write_bytes(wav_file(noise))
    (copy / "prompts" / "conversational_b.wav").write_bytes(wav_file(noise[: 1920 * 4]))
    (copy / "prompts" / "conversational_b.txt").write_text("said otherwise\n")
    return copy


async def test_a_checkpoints_prompts_are_the_default_voices(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    encoder = EncoderService.load(settings(with_prompts(tiny_checkpoint_folder, tmp_path), tmp_path))
    voices = await encoder.default_voices()
    assert {speaker: voice.codes.num_frames for speaker, voice in voices.items()} == {0: 5, 1: 2}
    assert voices[0].text.startswith("like revising for an exam")
    assert voices[1].text == "said otherwise"
    assert all(voice.anchor for voice in voices.values())
    encoder.stop()


async def test_a_checkpoint_without_prompts_has_no_voices(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    meter = RecordingMeter()
    encoder = EncoderService.load(settings(tiny_checkpoint_folder, tmp_path), meter)
    assert await encoder.default_voices() == {}
    codes = await encoder.encode(bytes(3840 * 3))
    assert codes.num_frames == 3
    together = await asyncio.gather(encoder.encode(bytes(3840 * 3)), encoder.encode(bytes(3840)))
    assert together == [codes, await encoder.encode(bytes(3840))]
    assert meter.counted[metrics.ENCODER_CLIPS.name] == 4
    assert meter.counted[metrics.ENCODER_CACHE_HITS.name] == 2
    # What one key has sent does not make another one's clip faster.
    for owner, hits in (("a", 2), ("a", 3), ("b", 3)):
        assert await encoder.encode(bytes(3840 * 3), owner) == codes
        assert meter.counted[metrics.ENCODER_CACHE_HITS.name] == hits
    encoder.check_health()
    encoder.stop()


async def test_a_broken_prompt_stops_the_start(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = with_prompts(tiny_checkpoint_folder, tmp_path)
    (folder / "prompts" / "conversational_a.wav").write_bytes(b"RIFF")
    with pytest.raises(CheckpointError, match=r"prompts/conversational_a\.wav"):
        EncoderService.load(settings(folder, tmp_path))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
