"""Mixing that keeps the voice, silence that is refused, and notices about the rest."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.audio.clip import Recording, decode_recording
from serve_app.audio.read import read_recording
from serve_app.errors import InvalidAudio
from tests.support.made_up_clips import AMPLITUDE, MAX_SECONDS, encoded, sine


def recorded(samples: NDArray[np.float64], container: str = "WAV", subtype: str | None = "PCM_16") -> Recording:
    return decode_recording("audio", encoded(samples, 24_000, container, subtype), MAX_SECONDS)


def amplitude(recording: Recording) -> float:
    steady = np.frombuffer(recording.pcm, "<i2")[2400:-2400] / 32_767
    return float(np.sqrt(2 * np.mean(steady**2)))


NOISE = np.random.default_rng(7).normal(size=(24_000, 2))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 1), 1.0),
        ((1, -1), 1.0),
        ((-0.5, 1), 0.75),
        ((1, 0), 1.0),
        ((0, -1), 1.0),
        ((0, 1, 0, 0, 0, 0), 1.0),
        ((1, -1, 1, -1), 1.0),
        ((1, 0.25), 0.625),
    ],
)
@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_channels_neither_cancel_nor_halve_the_voice(
    weights: tuple[float, ...], expected: float, container: str
) -> None:
    heard = recorded(sine() * np.array(weights), container)
    assert amplitude(heard) == pytest.approx(expected * AMPLITUDE, rel=0.01)
    assert heard.notices == ()


def test_opposite_channels_with_noise_of_their_own_keep_the_voice() -> None:
    heard = recorded(sine() * [1, -1] + 0.05 * NOISE)
    assert amplitude(heard) == pytest.approx(AMPLITUDE, rel=0.05)


def test_a_dead_channel_with_an_offset_and_hiss_is_left_out() -> None:
    heard = recorded(sine() * [1, 0] + 0.001 * NOISE + [0, 0.3])
    assert amplitude(heard) == pytest.approx(AMPLITUDE, rel=0.02)


def test_independent_channels_are_averaged() -> None:
    heard = np.frombuffer(recorded(0.1 * NOISE).pcm, "<i2") / 32_767
    np.testing.assert_allclose(heard, 0.1 * NOISE.mean(axis=1), atol=2**-14)


@pytest.mark.parametrize(
    "samples",
    [0 * sine(), 0 * sine() + 0.5, 2**-11 * sine(), np.zeros((480, 2))],
    ids=["zeros", "offset", "faint", "short"],
)
def test_a_clip_without_audible_sound_is_refused(samples: NDArray[np.float64]) -> None:
    with pytest.raises(InvalidAudio, match=r"holds no audible sound .*; send a clip"):
        recorded(samples)


@pytest.mark.parametrize(
    ("samples", "notice"),
    [
        ((3 * sine()).clip(-1, 1), "clipped in 4"),
        (0.01 * sine(), "very quiet .* -4[89] dBFS"),
        (np.concatenate([np.zeros((60_000, 1)), sine(seconds=0.5)]), "mostly silence .0.5 of 3.0 seconds"),
    ],
    ids=["clipped", "quiet", "mostly silence"],
)
def test_a_flaw_of_the_level_is_noted(samples: NDArray[np.float64], notice: str) -> None:
    [told] = recorded(samples).notices
    assert re.search(rf"^the audio is {notice}.*; \w", told), told


def test_full_scale_alone_is_not_clipped() -> None:
    assert recorded(sine() / AMPLITUDE).notices == ()


def test_notices_come_through_the_reader_process() -> None:
    data = encoded(0.01 * sine(), 24_000, "WAV", "PCM_16")
    there = read_recording("audio", data, MAX_SECONDS)
    assert there == decode_recording("audio", data, MAX_SECONDS)
    assert len(there.notices) == 1
