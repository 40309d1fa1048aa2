"""Everyday texts are said as an English reader says them."""

import pytest

from serve_app.speech.text.normalize import normalize
from tests.unit.speech.text.everyday_cases import CASES


@pytest.mark.parametrize(
    ("typed", "said"),
    [pytest.param(typed, said, id=f"{group}: {typed}") for group, cases in CASES.items() for typed, said in cases],
)
def test_an_everyday_text_is_said_as_a_reader_says_it(typed: str, said: str) -> None:
    assert normalize(typed).text == said
