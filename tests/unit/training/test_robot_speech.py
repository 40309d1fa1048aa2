"""Robot speech lies on Mimi's grid: whole frames, whole pitch periods."""

from itertools import pairwise

import numpy as np
import pytest

from tests.listener import espeak, pitch_hz
from tests.support.system_packages import need
from training.espeak import PITCH_HZ, Espeak
from training.robot_speech import FRAME_SAMPLES, PERIOD_SAMPLES, say

TEXT = "The weather is fine, my friend."


@pytest.fixture(autouse=True)
def with_espeak() -> None:
    need("espeak-ng")


@pytest.mark.parametrize("voice", [0, 1])
def test_every_phoneme_has_whole_frames(voice: int) -> None:
    speech = say(espeak(), TEXT, voice)
    assert len(speech.wave) == len(speech.frames) * FRAME_SAMPLES
    assert {frame.part for frame in speech.frames} == {0, 1, 2}
    words = {TEXT[f.phoneme.word_start :][: f.phoneme.word_length] for f in speech.frames if not f.phoneme.is_pause}
    assert words == {"The", "weather", "is", "fine", "my", "friend"}


@pytest.mark.parametrize("voice", [0, 1])
def test_a_vowel_repeats_itself_after_a_period(voice: int) -> None:
    speech = say(espeak(), TEXT, voice)
    vowel = next(n for n, frame in enumerate(speech.frames) if frame.phoneme.name == "aI")
    sound = speech.wave[vowel * FRAME_SAMPLES : (vowel + 1) * FRAME_SAMPLES].reshape(-1, PERIOD_SAMPLES[voice])
    neighbours = [np.corrcoef(a, b)[0, 1] for a, b in pairwise(sound)]
    assert np.median(neighbours) > 0.95


@pytest.mark.parametrize("voice", [0, 1])
def test_the_pitch_is_the_voice_s(voice: int) -> None:
    pcm = (say(espeak(), TEXT, voice).wave * 32767).astype("<i2").tobytes()
    assert pitch_hz(pcm) == pytest.approx(PITCH_HZ[voice], rel=0.01)


def test_two_of_a_process_take_turns() -> None:
    first, second = Espeak(), Espeak()
    waves = [espeak.speak(TEXT, 0)[0] for espeak in (first, second, first)]
    assert len(waves[0]) and all(np.array_equal(waves[0], wave) for wave in waves)
