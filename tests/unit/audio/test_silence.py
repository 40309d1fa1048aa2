"""A stream that fell silent and does not end."""

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.audio.silence import SilenceGuard

FRAME = 1920
LIMIT_SECONDS = 0.4
LIMIT_FRAMES = 5


def tone(amplitude: float) -> NDArray[np.int16]:
    return (amplitude * np.sin(np.arange(FRAME) / 10)).astype(np.int16)


SPEECH = tone(3000)
BREATH = tone(100)
SILENCE = np.zeros(FRAME, dtype=np.int16)
DITHER = np.random.default_rng(0).integers(-5, 6, FRAME).astype(np.int16)


@pytest.fixture
def guard() -> SilenceGuard:
    return SilenceGuard(LIMIT_SECONDS)


@pytest.mark.parametrize("silent", [SILENCE, DITHER], ids=["zeros", "dither"])
@pytest.mark.parametrize("before", [[], [SPEECH] * 3], ids=["from the start", "after speech"])
def test_more_silence_than_the_limit_is_noticed(
    guard: SilenceGuard, before: list[NDArray[np.int16]], silent: NDArray[np.int16]
) -> None:
    assert not any(guard.feed(frame) for frame in before)
    assert [guard.feed(silent) for _ in range(LIMIT_FRAMES + 2)] == [False] * LIMIT_FRAMES + [True] * 2


@pytest.mark.parametrize("sound", [SPEECH, BREATH], ids=["speech", "breath"])
def test_any_sound_starts_the_count_again(guard: SilenceGuard, sound: NDArray[np.int16]) -> None:
    for _ in range(4):
        assert not any(guard.feed(SILENCE) for _ in range(LIMIT_FRAMES))
        assert not guard.feed(sound)


def test_the_loudest_samples_do_not_overflow(guard: SilenceGuard) -> None:
    loudest = np.full(FRAME, -32768, dtype=np.int16)
    assert not any(guard.feed(loudest) for _ in range(3 * LIMIT_FRAMES))
