"""The codec that costs nothing: tones by the first code, and codes by a clip's content."""

import subprocess
import sys

import numpy as np
import pytest

from serve_app.audio.silence import SilenceGuard
from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import EncoderService
from serve_app.codec.stand_in import StandInClips, StandInSlots
from serve_app.engine.service import TokenService
from serve_app.errors import Overloaded
from serve_app.messages import AudioChunk, FinishReason, GenerationRequest, SamplingParams
from serve_app.settings import CodecSettings, Settings, StandInSettings

FRAMES = np.arange(1, 40)[:, None] + np.zeros(32, dtype=np.int64)


def test_a_frame_is_a_tone_by_its_first_code_and_never_silence() -> None:
    slots = StandInSlots(StandInSettings(), 2)
    one, two = slots.open(), slots.open()
    assert one is not None and two is not None and slots.open() is None
    guard = SilenceGuard(0.1)
    for frame in FRAMES:
        sound = slots.decode({one: frame[None], two: FRAMES[:1]})
        assert [s.shape for s in sound.values()] == [(1920,)] * 2
        assert sound[one].dtype == np.int16
        assert not guard.feed(sound[one])
    assert np.abs(np.fft.rfft(slots.decode({one: FRAMES[:1]})[one])).argmax() == 17


def test_frames_join_without_a_click() -> None:
    slots = StandInSlots(StandInSettings(), 1)
    sound = slots.decode({0: FRAMES[:4]})[0].astype(np.int64)
    assert np.abs(np.diff(sound)).max() < 8000 * 2 * np.pi * 20 / 1920 * 1.02


def test_a_closed_slot_can_be_opened_again() -> None:
    slots = StandInSlots(StandInSettings(), 1)
    slot = slots.open()
    assert slot is not None
    slots.close(slot)
    assert slots.open() == slot


def test_a_tick_takes_the_set_time_whatever_it_decodes_and_an_empty_one_none() -> None:
    slept: list[float] = []
    slots = StandInSlots(StandInSettings(decode_ms_per_tick=4), 2, slept.append)
    slots.decode({0: FRAMES[:1], 1: FRAMES[1:2]})
    slots.decode({})
    assert slept == [0.004]


def test_a_clip_has_its_frames_and_codes_of_its_own() -> None:
    clips = StandInClips(StandInSettings(num_codebooks=8))
    one, two, again = clips.encode_batch([b"\1\2" * 1921, b"\3\4" * 1920, b"\1\2" * 1921])
    assert (one.num_frames, two.num_frames, one.num_codebooks) == (2, 1, 8)
    assert one == again
    assert one.to_array()[:1].tolist() != two.to_array().tolist()
    assert 1 <= one.to_array().min() <= one.to_array().max() < 2048


async def test_the_services_take_it_where_the_settings_say_so() -> None:
    settings = Settings(model="stand-in", stand_in=StandInSettings(frames=10), codec=CodecSettings(max_streams=1))
    generator = TokenService.load(settings)
    decoder = DecoderService.load(settings, generator)
    await decoder.warm_up()
    request = GenerationRequest("r", "Hello.", 0, sampling=SamplingParams(max_frames=40))
    chunks = [m async for m in decoder.stream(request) if isinstance(m, AudioChunk)]
    assert sum(len(chunk.pcm) for chunk in chunks) == 10 * 3840
    assert chunks[-1].finish is FinishReason.EOS
    encoder = EncoderService.load(settings)
    assert (await encoder.encode(b"\1\1" * 4000)).num_frames == 3
    assert await encoder.default_voices() == {}
    for service in (generator, decoder, encoder):
        service.stop()


async def test_a_full_stand_in_refuses_as_the_real_one_does() -> None:
    settings = Settings(model="stand-in", stand_in=StandInSettings(), codec=CodecSettings(max_streams=1))
    generator = TokenService.load(settings)
    decoder = DecoderService.load(settings, generator)
    request = GenerationRequest("r", "Hello.", 0, sampling=SamplingParams(max_frames=10_000))
    first = decoder.stream(request)
    await anext(first)
    with pytest.raises(Overloaded, match="slot"):
        await anext(decoder.stream(request))
    await first.aclose()
    assert await decoder.num_streams() == 0
    for service in (generator, decoder):
        service.stop()


def test_it_runs_without_torch() -> None:
    program = """
import sys
from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import EncoderService
from serve_app.settings import Settings
settings = Settings(model="stand-in", stand_in={})
DecoderService.load(settings, None).stop()
EncoderService.load(settings).stop()
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
