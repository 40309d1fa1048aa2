"""A checkpoint's own word on what it was trained for."""

from typing import Any

import pytest

from serve_app.errors import CheckpointError
from serve_app.messages import TrainedFor
from serve_app.model.checkpoint import open_checkpoint
from serve_app.model.trained_for import TRAINED_FOR_KEY, read_trained_for


def test_a_checkpoint_that_says_nothing_is_taken_for_csm_1b() -> None:
    assert read_trained_for({}) == TrainedFor()


def test_the_demo_voice_reads_letters_and_five_signs_in_short_pieces() -> None:
    trained_for = open_checkpoint("demo", None).trained_for
    assert trained_for.longest_piece_words == 12
    assert set(trained_for.alphabet) >= set("abcxyzABCXYZ,.?!'")
    assert not set(trained_for.alphabet) & set("0123456789-é")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "must be an object"),
        ({"longest": 3}, "has longest, which is none of longest_piece_words"),
        ({"longest_piece_words": 0}, "longest_piece_words must be an integer from 1 to 500"),
        ({"longest_piece_words": True}, "longest_piece_words must be"),
        ({"longest_context_seconds": "12"}, "longest_context_seconds must be a number above 0"),
        ({"alphabet": 5}, "alphabet must be a string"),
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_named(given: Any, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_trained_for({TRAINED_FOR_KEY: given})
