"""The work grows with the text, not with its square."""

import pytest

from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.readable import readable
from serve_app.speech.text.splitting import pieces

ALPHABET = "abcdefghijklmnopqrstuvwxyz,.?!'"
_SEEDS = [
    "a",
    ".",
    "1",
    "[",
    "[a](",
    "<",
    "<!--",
    "*a ",
    "A. ",
    "1-",
    "\n- ",
    "a@",
    "(1) ",
    "\U0001f600",
    "+1 ",
    "\u4f60",
]


def _whole_way(text: str) -> int:
    prepared = normalize(text)
    return len(pieces(prepared, 25)) + len(readable(prepared, ALPHABET).text)


@pytest.mark.slow
@pytest.mark.parametrize("seed", _SEEDS)
def test_200000_characters_of_one_kind_are_prepared(seed: str) -> None:
    """Seconds for each. A rule that grows with the square takes hours, which the suite's time limit for a test ends."""
    _whole_way((seed * 200_000)[:200_000])


def test_a_word_of_200000_letters_is_cut_into_pieces_that_fit() -> None:
    found = pieces(normalize("a" * 200_000), 25)
    assert "".join(piece.text for piece in found) == "a" * 200_000
    assert all(piece.num_words <= 25 for piece in found)
    assert found[-1].end == 200_000


@pytest.mark.parametrize("mark", [".", "!?", "*", "(", "- "])
def test_marks_without_a_word_are_no_text(mark: str) -> None:
    assert pieces(normalize(mark * 20_000), 25) == ()


def test_nested_markup_is_taken_off() -> None:
    assert normalize("**" * 2_000 + "word" + "**" * 2_000).text.strip("* ") == "word"
    assert normalize("<b>" * 2_000 + "word" + "</b>" * 2_000).text == "word"
