"""What is said of a sample, and of speed."""

import wave
from pathlib import Path

import numpy as np
import pytest

from serve_app.errors import StartupError
from serve_app.messages import FinishReason
from serve_app.verify.check import Status
from serve_app.verify.served import Sound, Speed
from serve_app.verify.sound import check_sample, show_speed


def sound(amplitude: float, finish: FinishReason = FinishReason.EOS, num_frames: int = 25) -> Sound:
    wave_form = np.sin(np.arange(1920 * num_frames) / 20) * amplitude * 32767
    return Sound(wave_form.astype("<i2").tobytes(), num_frames, finish)


def test_length_and_loudness_are_the_files(tmp_path: Path) -> None:
    check = check_sample(sound(0.5), tmp_path / "s.wav", is_random=False)
    assert check.status is Status.PASSED
    assert check.values["seconds"] == 2
    assert check.values["peak_dbfs"] == pytest.approx(-6.02, abs=0.01)
    assert check.values["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)
    with wave.open(str(tmp_path / "s.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (24_000, 48_000)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (sound(0.5, FinishReason.RUNAWAY), "the answer ended by runaway, not by itself"),
        (sound(0.0001), "the answer is nearly silent: -84 dBFS"),
        (Sound(b"", 0, FinishReason.EOS), "the answer holds no sound"),
    ],
    ids=["runaway", "silent", "empty"],
)
def test_speech_that_is_none_fails(tmp_path: Path, made: Sound, reason: str) -> None:
    check = check_sample(made, tmp_path / "s.wav", is_random=False)
    assert (check.status, check.reason) == (Status.FAILED, reason)


def test_noise_is_said_to_be_noise_and_may_end_anyhow(tmp_path: Path) -> None:
    check = check_sample(sound(0.5, FinishReason.RUNAWAY), tmp_path / "s.wav", is_random=True)
    assert check.status is Status.PASSED
    assert "this is noise" in check.rows[0][1]


def test_a_sample_that_cannot_be_written_is_a_startup_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"--sample: cannot write .* name another file"):
        check_sample(sound(0.5), tmp_path, is_random=True)


def test_the_real_time_factor_is_of_80_ms() -> None:
    check = show_speed(Speed("cpu", "float32", "native", {1: 8.0, 4: 40.0}, 30.0, 5.0, 8))
    assert check.status is Status.MEASURED
    assert check.values["real_time_factor_by_batch"] == {"1": 0.1, "4": 0.5}
    assert ("4 streams", "40.0 ms a frame, real-time factor 0.50") in check.rows
