"""Word times against the exact truth: the demo voice's teacher, whose phonemes last whole frames.

`pytest -rP` shows the figures.
"""

import sys

import numpy as np
import pytest

from serve_app.align.letters import letters_to_phones
from serve_app.align.sphinx import SphinxAligner
from serve_app.align.words import words_of
from tests.support.system_packages import need
from training.espeak import Espeak
from training.robot_speech import say
from training.texts import read_lines

SENTENCES = read_lines("sentences.txt")[:12]
FRAME_SECONDS = 0.08


@pytest.fixture(scope="module")
def aligner() -> SphinxAligner:
    return SphinxAligner()


@pytest.fixture(scope="module")
def robot() -> Espeak:
    need("espeak-ng")
    return Espeak()


def spoken(robot: Espeak, text: str, voice: int) -> tuple[bytes, dict[int, tuple[float, float]]]:
    """The sound, and when the word that begins at each place of the text is heard."""
    speech = say(robot, text, voice)
    truth: dict[int, tuple[float, float]] = {}
    for number, frame in enumerate(speech.frames):
        if not frame.phoneme.is_pause:
            place = frame.phoneme.word_start
            start = truth.get(place, (number * FRAME_SECONDS, 0.0))[0]
            truth[place] = (start, (number + 1) * FRAME_SECONDS)
    return (np.clip(speech.wave, -1, 1) * 32767).astype("<i2").tobytes(), truth


def test_the_error_on_the_demo_voice_is_within_the_goal(aligner: SphinxAligner, robot: Espeak) -> None:
    errors: list[float] = []
    for number, text in enumerate(SENTENCES):
        pcm, truth = spoken(robot, text, number % 2)
        words = aligner.align(pcm, text)
        assert [word.text for word in words] == text.split()
        assert not any(word.is_estimated for word in words)
        place = 0
        for word in words:
            place = text.index(word.text, place)
            # espeak runs some short words together; those have no time of their own.
            if known := truth.get(place + 1, truth.get(place)):
                errors += [abs(word.start_seconds - known[0]), abs(word.end_seconds - known[1])]
            place += len(word.text)
    median, p95 = np.percentile(np.array(errors) * 1000, [50, 95])
    sys.stdout.write(
        f"{len(errors)} word edges: error {median:.0f} ms at the median, {p95:.0f} ms at the 95th percentile\n"
    )
    assert len(errors) > 100
    assert median <= 40
    assert p95 <= 120


def test_sound_that_does_not_follow_the_text_is_marked(aligner: SphinxAligner) -> None:
    noise = (np.random.default_rng(0).normal(0, 3000, 12_000)).astype("<i2").tobytes()
    words = aligner.align(noise, "a very long sentence that nobody could say in half a second, or could they")
    assert len(words) == 15
    assert all(word.is_estimated for word in words)
    assert words[-1].end_seconds == pytest.approx(0.5)


def test_nothing_to_align_gives_nothing(aligner: SphinxAligner) -> None:
    assert aligner.align(b"", "word") == []
    assert aligner.align(bytes(9600), "…") == []


def test_words_keep_their_punctuation_and_unknown_ones_get_phones() -> None:
    assert [(word.typed, word.spoken) for word in words_of("“Don\u2019t stop”, - he said!")] == [
        ("“Don\u2019t", "don't"), ("stop”,", "stop"), ("he", "he"), ("said!", "said")
    ]  # fmt: skip
    assert letters_to_phones("zibbo") == "Z IH B AA"
    assert letters_to_phones("shake") == "SH AE K"
