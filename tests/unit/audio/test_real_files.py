"""Files as people have them: spoken by espeak-ng, encoded by ffmpeg."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from serve_app.audio.read import read_clip
from serve_app.messages import SAMPLE_RATE_HZ
from tests.support.system_packages import need


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("espeak-ng", "ffmpeg")
    path = tmp_path_factory.mktemp("spoken") / "speech.wav"
    subprocess.run(["espeak-ng", "-w", str(path), "The rain in Spain stays mainly in the plain."], check=True)
    return path


def loudness(pcm: bytes) -> np.ndarray:
    """RMS of each tenth of a second."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    whole = samples[: len(samples) // 2400 * 2400].reshape(-1, 2400)
    return np.sqrt((whole**2).mean(axis=1))


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c:a", "aac", "out.m4a"],
        ["-c:a", "aac", "-movflags", "+faststart", "out.mp4"],
        ["-c:a", "libopus", "out.webm"],
        ["-c:a", "libopus", "-ar", "48000", "-ac", "2", "out.ogg"],
        ["-c:a", "libvorbis", "out.ogg"],
        ["-c:a", "libmp3lame", "-b:a", "64k", "out.mp3"],
        ["-c:a", "flac", "out.flac"],
        ["-c:a", "pcm_s24le", "-ar", "44100", "-ac", "8", "out.wav"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_speech_survives_every_format(spoken: Path, tmp_path: Path, arguments: list[str]) -> None:
    out = tmp_path / arguments[-1]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(spoken), *arguments[:-1], str(out)], check=True)
    original = read_clip("audio", spoken.read_bytes(), 30)
    pcm = read_clip("audio", out.read_bytes(), 30)
    assert abs(len(pcm) - len(original)) / 2 < 0.1 * SAMPLE_RATE_HZ
    heard, said = loudness(pcm), loudness(original)
    shared = min(len(heard), len(said))
    assert np.corrcoef(heard[:shared], said[:shared])[0, 1] > 0.95
