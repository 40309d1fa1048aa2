"""Every kind of recording gives back the sound that it was made from."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from serve_app.audio.clip import decode_clip
from tests.support.made_up_clips import MAX_SECONDS, encoded
from tests.support.recordings import KINDS, RATE_HZ, assert_is_the_sweep, likeness, recording, sweep
from tests.support.system_packages import need


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_its_sound(name: str) -> None:
    assert_is_the_sweep(name, decode_clip("audio", recording(name), MAX_SECONDS))


@pytest.mark.parametrize("name", ["mov pcm_s16le", "mov pcm_s24be", "mp4 pcm_f32le", "CAF PCM_16", "fragmented PCM"])
def test_uncompressed_sound_may_be_seconds_long(name: str) -> None:
    pcm = np.frombuffer(decode_clip("audio", recording(name, MAX_SECONDS, 2), MAX_SECONDS), "<i2")
    assert np.abs(pcm / 32_767 - sweep(seconds=MAX_SECONDS)[:, 0]).max() < 2**-14


@pytest.mark.parametrize(
    ("arguments", "least_likeness"),
    [
        (["-c:a", "libopus", "out.caf"], 0.95),
        (["-c:a", "libspeex", "-ar", "16000", "out.ogg"], 0.8),
        (["-c:a", "libvorbis", "out.mka"], 0.95),
        (["-c:a", "pcm_s16le", "-movflags", "frag_keyframe+empty_moov", "out.mov"], 0.99),
        (["-c:a", "aac", "-movflags", "frag_every_frame+empty_moov", "out.mp4"], 0.95),
        (["-c:a", "pcm_f32le", "-f", "matroska", "out.webm"], 0.99),
        (["-c:a", "libmp3lame", "-f", "wav", "out.wav"], 0.9),
        (["-c:a", "alac", "-ar", "48000", "out.m4a"], 0.99),
        (["-c:a", "pcm_s24le", "-f", "w64", "out.w64"], 0.99),
        (["-c:a", "pcm_s16le", "-rf64", "always", "out.wav"], 0.99),
    ],
    ids=lambda argument: " ".join(argument) if isinstance(argument, list) else "",
)
def test_what_ffmpeg_writes_gives_its_sound(tmp_path: Path, arguments: list[str], least_likeness: float) -> None:
    need("ffmpeg")
    source, out = tmp_path / "in.wav", tmp_path / arguments[-1]
    source.write_bytes(encoded(sweep(), RATE_HZ, "WAV", "PCM_16"))

    subprocess.run(["ffmpeg", "-v", "error", "-i", source, *arguments[:-1], out], check=True)
    pcm = decode_clip("audio", out.read_bytes(), MAX_SECONDS)
    assert abs(len(pcm) / 2 - len(sweep())) <= 0.12 * RATE_HZ
    assert likeness(np.frombuffer(pcm, "<i2") / 32_767, sweep()[:, 0]) > least_likeness
