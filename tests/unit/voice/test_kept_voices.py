"""Kept voices of the demo voice: the same over fifty calls, and told apart."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from serve_app.audio.voice_levels import pitch_hz as report_pitch_hz
from serve_app.audio.wav import wav_file
from serve_app.messages import AudioChunk, SamplingParams
from serve_app.settings import CodecSettings, EngineSettings, FileSettings, Settings, VoiceSettings
from serve_app.speech.build import Asked, build_scene
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.store.database import Database
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects
from serve_app.verify.served import ServedModel
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.voice import Consent, NewVoice, VoiceClip
from tests.listener import espeak, pitch_hz
from tests.support.system_packages import need
from training.espeak import PITCH_HZ
from training.robot_speech import say
from training.texts import read_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

NUM_CALLS = 50
AT_ONCE = 8
CLIP = "The weather is fine today and we can go to the park."


async def test_fifty_calls_sound_like_one_voice_each(tmp_path: Path) -> None:
    need("espeak-ng")
    settings = Settings(
        model="demo",
        engine=EngineSettings(threads=1, max_step_ms=0, max_wait_seconds=600),
        codec=CodecSettings(threads=1, max_wait_seconds=600),
    )
    model = ServedModel(settings)
    try:
        library = _library(tmp_path, model)
        pitches = {voice: await _pitches(model, library, settings, voice) for voice in (0, 1)}
    finally:
        model.stop()
    heard = [
        min((0, 1), key=lambda other: abs(np.log(pitch / PITCH_HZ[other]))) == voice
        for voice, found in pitches.items()
        for pitch in found
    ]
    for voice, found in pitches.items():
        halves = np.median(found[: NUM_CALLS // 2]), np.median(found[NUM_CALLS // 2 :])
        sys.stdout.write(f"voice {voice}: median pitch {np.median(found):.1f} Hz, halves {halves}\n")
        assert np.median(found) == pytest.approx(PITCH_HZ[voice], rel=0.03)
        assert halves[0] == pytest.approx(halves[1], rel=0.03)
    sys.stdout.write(f"{sum(heard)} of {len(heard)} are told apart\n")
    assert all(heard)


def _library(folder: Path, model: ServedModel) -> VoiceLibrary:
    database = Database.open(f"sqlite:///{folder / 'state.db'}")
    files = FileStore(database, Objects.open(FileSettings(), folder), FileSettings())
    return VoiceLibrary(database, files, model.encoder, VoiceSettings(min_seconds=1.0))


async def _pitches(model: ServedModel, library: VoiceLibrary, settings: Settings, voice: int) -> list[float]:
    """Of fifty calls with a kept voice, each another text and seed."""
    pcm = (say(espeak(), CLIP, voice).wave * 32767).astype("<i2").tobytes()
    clip = VoiceClip(CLIP, wav_file(pcm))
    kept = await library.add(NewVoice(f"Robot {voice}", (clip,), Consent("A robot agrees.", "its makers")), "tests")
    assert report_pitch_hz(np.frombuffer(pcm, "<i2")) == pytest.approx(PITCH_HZ[voice], rel=0.05)
    texts = read_lines("sentences.txt")
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> float:
        async with at_once:
            return pitch_hz(await _spoken(model, library, settings, kept.id, voice, texts[number % len(texts)], number))

    return await asyncio.gather(*(one(number) for number in range(NUM_CALLS)))


async def _spoken(
    model: ServedModel, library: VoiceLibrary, settings: Settings, voice_id: str, speaker: int, text: str, seed: int
) -> bytes:
    scene = build_scene(Asked([Turn(text, speaker)]), await model.tokens.info(), settings)
    voices = await library.segments(voice_id, "tests", speaker)
    request = SpeechRequest(
        f"call-{seed}", scene.turns, (), SamplingParams(seed=seed), scene.max_audio_seconds, voices=voices
    )
    chunks = [chunk async for chunk in model.pipeline().stream(request) if isinstance(chunk, AudioChunk)]
    return b"".join(chunk.pcm for chunk in chunks)
