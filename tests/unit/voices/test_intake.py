"""What is kept of a recording: its speech alone, at one loudness, the best stretch of a long one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.audio.clip import Recording
from serve_app.audio.voice_levels import Levels
from serve_app.errors import AudioTooLong, InvalidAudio
from serve_app.settings import VoiceSettings
from serve_app.voices.intake import LOUDNESS_DBFS, TakenClip, take_in
from tests.support.sounds import RATE_HZ, buzz, silence

SETTINGS = VoiceSettings()


def taken(*pieces: NDArray[np.float32], text: str = "One two three.", settings: VoiceSettings = SETTINGS) -> TakenClip:
    samples = np.rint(np.concatenate(pieces) * 32_767).astype("<i2")
    return take_in(0, text, Recording(samples.tobytes()), settings)


def seconds(clip: TakenClip) -> float:
    return len(clip.pcm) / (2 * RATE_HZ)


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_silence_is_cut_off_and_loudness_is_set(level: float) -> None:
    clip = taken(silence(2), buzz(5, level=level), silence(3))
    assert seconds(clip) == pytest.approx(5.2, abs=0.1)
    assert Levels(np.frombuffer(clip.pcm, "<i2")).loudness_dbfs == pytest.approx(LOUDNESS_DBFS, abs=1)
    assert clip.report["notices"] == []


def test_a_pitch_is_not_heard_an_octave_too_low_where_every_other_period_differs_a_little() -> None:
    rough = buzz(4, 220.0) + 0.25 * buzz(4, 110.0)
    assert taken(rough).report["pitch_hz"] == pytest.approx(220, rel=0.03)


@pytest.mark.parametrize("pitch_hz", [90.0, 120.0, 220.0])
def test_the_pitch_is_measured(pitch_hz: float) -> None:
    assert taken(buzz(4, pitch_hz)).report["pitch_hz"] == pytest.approx(pitch_hz, rel=0.03)


def test_noise_is_reported() -> None:
    noise = np.random.default_rng(0).normal(0, 0.03, 6 * RATE_HZ).astype(np.float32)
    speech = np.concatenate([silence(0.5), buzz(5), silence(0.5)])
    clip = taken(speech + noise)
    assert "noisy" in str(clip.report["notices"])


def test_a_short_clip_and_a_long_one_are_refused() -> None:
    with pytest.raises(InvalidAudio, match=r"2\.0 s of speech, at least 3 s"):
        taken(silence(2), buzz(2), silence(2))
    with pytest.raises(AudioTooLong, match="at most 40 s"):
        taken(buzz(41))


def test_of_a_long_clip_whole_sentences_are_kept() -> None:
    sentences = ["Alpha beta gamma delta.", "Epsilon zeta eta theta.", "Iota kappa lambda mu nu."]
    noise = np.random.default_rng(0).normal(0, 0.001, 8 * RATE_HZ).astype(np.float32)
    pieces = (np.concatenate([buzz(7), silence(1)]) + noise, buzz(7, seed=1), silence(0.5), buzz(7, seed=2))
    clip = taken(*pieces, text=" ".join(sentences), settings=VoiceSettings(best_seconds=16))
    assert clip.text == " ".join(sentences[1:]), "the noisy first sentence is left out"
    assert seconds(clip) == pytest.approx(14.7, abs=0.3)
    assert "best stretch" in str(clip.report["notices"])


def test_a_clip_whose_pauses_match_no_sentence_is_kept_whole() -> None:
    clip = taken(buzz(3), silence(0.5), buzz(20), text="A long sentence at the very beginning of it. Short.")
    assert clip.text.endswith("Short.")
    assert seconds(clip) == pytest.approx(23.7, abs=0.2)
    assert "kept whole" in str(clip.report["notices"])
