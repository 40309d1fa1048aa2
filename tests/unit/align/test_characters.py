"""When each character is said, by when its word is heard."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.align.characters import spoken_edges, typed_edges
from serve_app.messages import WordTime


def test_characters_share_the_time_of_their_word_and_a_space_the_time_between_two() -> None:
    words = [WordTime("It", 0.2, 0.4), WordTime("is.", 0.5, 0.8)]
    edges = spoken_edges("It is. ", words, 0.0, 1.0)
    assert edges == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0])


def test_without_words_all_characters_share_the_time() -> None:
    assert spoken_edges("abcd", (), 1.0, 2.0) == pytest.approx([1.0, 1.25, 1.5, 1.75, 2.0])
    assert spoken_edges("", (), 1.0, 2.0) == pytest.approx([2.0])


def test_what_was_typed_is_heard_with_what_was_spoken_for_it() -> None:
    spoken = "It is five dollars now. "
    edges = np.arange(len(spoken) + 1.0)
    typed = typed_edges("It is $5 now.", spoken, edges)
    assert typed[:6] == pytest.approx(range(6))
    assert typed[9:12] == pytest.approx([spoken.index("now") + n for n in range(3)])
    assert 6 <= typed[6] <= typed[7] <= typed[8] <= spoken.index("now")


@given(st.text(max_size=20), st.text(max_size=20), st.floats(0, 9), st.floats(0, 9))
def test_edges_ascend_within_the_part(typed: str, spoken: str, first: float, second: float) -> None:
    words = [WordTime(spoken[:3], first, second), WordTime(spoken[-2:], second, first)]
    edges = spoken_edges(spoken, words, 1.0, 4.0)
    for found, text in ((edges, spoken), (typed_edges(typed, spoken, edges), typed)):
        assert len(found) == len(text) + 1
        assert (np.diff(found) >= 0).all()
        assert found[0] >= 1.0 and found[-1] <= 4.0
