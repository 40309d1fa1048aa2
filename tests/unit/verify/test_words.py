"""Word error rate, and recognizers that are or are not there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve_app.verify import words as module
from serve_app.verify.check import Status
from serve_app.verify.words import check_words, find_recognizer, word_error_rate, words

SPOKEN = st.lists(st.sampled_from(["a", "dog", "it's", "Bär", "7"]), max_size=8).map(" ".join)
TONE = (np.sin(np.arange(24_000) / 10) * 9000).astype("<i2").tobytes()


class Hears:
    """A recognizer that hears what it is told to."""

    name = "fake"

    def __init__(self, heard: str | Exception) -> None:
        self.heard = heard
        self.samples: NDArray[np.float32] | None = None

    def transcribe(self, samples: NDArray[np.float32]) -> str:
        self.samples = samples
        if isinstance(self.heard, Exception):
            raise self.heard
        return self.heard


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("Hello, world!", "hello world", 0),
        ("one two three four", "one too three four", 1 / 4),
        ("one two three four", "one three four", 1 / 4),
        ("one two three four", "one two two three four", 1 / 4),
        ("one two", "", 1),
        ("one", "quite another thing", 3),
        ("it's", "it\N{RIGHT SINGLE QUOTATION MARK}s", 0),
        ("", "", 0),
    ],
)
def test_examples(said: str, heard: str, rate: float) -> None:
    assert word_error_rate(said, heard) == pytest.approx(rate)


@given(SPOKEN)
def test_what_was_said_has_no_errors_however_it_is_written(said: str) -> None:
    assert word_error_rate(said, f"  {said.upper()}. ") == 0


@given(SPOKEN, SPOKEN, SPOKEN)
def test_errors_are_a_distance(first: str, second: str, third: str) -> None:
    def distance(one: str, other: str) -> float:
        return round(word_error_rate(one, other) * max(1, len(words(one))))

    assert distance(first, second) == distance(second, first)
    assert distance(first, third) <= distance(first, second) + distance(second, third)
    assert distance(first, second) <= max(len(words(first)), len(words(second)))


def test_the_recognizer_gets_16_khz_floats() -> None:
    recognizer = Hears("a tone")
    check = check_words("A tone.", TONE, recognizer)
    assert check.status is Status.PASSED
    assert check.values["word_error_rate"] == 0
    assert recognizer.samples is not None
    assert (len(recognizer.samples), recognizer.samples.dtype) == (16_000, np.float32)
    assert 0.2 < np.abs(recognizer.samples).max() < 0.4


def test_unintelligible_speech_fails() -> None:
    check = check_words("This is what was to be said.", TONE, Hears("mumble"))
    assert check.status is Status.FAILED
    assert check.reason == "100% of the words are wrong, to fake"


def test_without_a_recognizer_the_line_says_what_to_install() -> None:
    check = check_words("A tone.", TONE, None)
    assert (check.status, check.reason) == (
        Status.NOT_RUN,
        "word error rate: not measured (pip install faster-whisper)",
    )


def test_a_recognizer_that_cannot_fetch_its_weights_is_no_failure() -> None:
    check = check_words("A tone.", TONE, Hears(OSError("no network\nat all")))
    assert check.status is Status.NOT_RUN
    assert check.reason == "fake cannot listen (OSError: no network"


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        (("faster_whisper", "whisper"), "faster-whisper base"),
        (("whisper",), "whisper base"),
        ((), None),
    ],
    ids=str,
)
def test_the_best_installed_recognizer_is_taken(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], found: str | None
) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name in installed or None)
    recognizer = find_recognizer()
    assert (recognizer.name if recognizer else None) == found
