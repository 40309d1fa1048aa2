"""The time that a text may take grows with the words spoken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.messages import FRAME_RATE_HZ
from serve_app.speech.text.duration import frame_cap
from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.word_count import spoken_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, how are you today?", 5),
        ("It's a well-known fact.", 5),
        ("1234567890", 10),
        ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", 4),
        ("\u3053\u3093\u306b\u3061\u306f", 3),
        ("antidisestablishmentarianism", 3),
        ("", 0),
        ("?!", 0),
    ],
)
def test_words_are_counted_as_they_are_spoken(text: str, words: int) -> None:
    assert spoken_words(text) == words


# What espeak-ng needs at 150 words a minute (the demo voice's pace), and a fifth more.
@pytest.mark.parametrize(
    ("text", "needed_seconds"),
    [
        ("1234567890", 7.9),
        ("Call 555-867-5309.", 8.3),
        ("In 1776, 1812 and 1945.", 9.1),
        ("It costs $1,234,567.89.", 8.4),
    ],
)
@pytest.mark.parametrize("normalised", [True, False])
def test_a_number_is_allowed_the_time_to_say_it(text: str, needed_seconds: float, normalised: bool) -> None:
    words = spoken_words(normalize(text).text if normalised else text)
    assert frame_cap(words) / FRAME_RATE_HZ >= needed_seconds


def test_a_slower_reader_is_allowed_more_time() -> None:
    assert frame_cap(8, rate=2.0) == (2 + 4) * FRAME_RATE_HZ < frame_cap(8)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_longer_text_never_counts_less(text: str, more: str) -> None:
    assert spoken_words(f"{text} {more}") >= spoken_words(text)
