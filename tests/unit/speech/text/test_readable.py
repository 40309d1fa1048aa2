"""A checkpoint that knows some characters gets a text of these alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.prepared import Notice
from serve_app.speech.text.readable import readable

DEMO = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,.?!'"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("S\xf8ren's stra\xdfe, na\xefve caf\xe9", "Soren's strasse, naive cafe"),
        ("\xc6r\xf8 \u0141\xf3d\u017a \xdeorn", "AEro Lodz THorn"),
        ("He said (twice): go; now", "He said, twice, go, now"),
        ('"Go away." He left...', "Go away. He left."),
        ("well-known twenty-five", "well known twenty five"),
        ("Wait \u2014 what?!", "Wait, what?!"),
        ("It\u2019s \u201cfine\u201d", "It's fine"),
        ("one.\ntwo.", "one.\ntwo."),
    ],
)
def test_accents_fold_and_signs_become_the_nearest_pause(typed: str, read: str) -> None:
    prepared = readable(typed, DEMO)
    assert (prepared.text, prepared.notices) == (read, ())


def test_what_cannot_be_read_is_told_by_kind() -> None:
    prepared = readable("Hi \u041f\u0440\u0438\u0432\u0435\u0442 7 \u25b3 there", DEMO)
    assert prepared.text == "Hi there"
    assert prepared.notices == (
        Notice("letters that the model does not know", 6),
        Notice("digits that the model does not know", 1),
        Notice("signs that the model does not know", 1),
    )


def test_notices_of_the_steps_before_are_kept() -> None:
    prepared = readable(normalize("Hi \U0001f600 \u4f60 there"), DEMO)
    assert prepared.notices == (Notice("emoji", 1), Notice("letters that the model does not know", 1))


def test_a_text_without_a_readable_letter_is_empty() -> None:
    assert readable("\u4f60\u597d\uff01", DEMO).text == ""


def test_letters_take_the_case_that_the_alphabet_has() -> None:
    assert readable("\xc5se Said", "abcdefghijklmnopqrstuvwxyz").text == "ase said"


@pytest.mark.parametrize(
    ("alphabet", "read"), [("abcdehnotwy", "on. wait" * 0 + "then they"), (",abcdehnotwy", "then, they")]
)
def test_a_mark_that_the_alphabet_lacks_becomes_a_weaker_one(alphabet: str, read: str) -> None:
    assert readable("then; they!", alphabet).text.rstrip(",") == read


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(exclude_categories=[]), max_size=60),
    st.sampled_from([DEMO, "abc.", DEMO + "\xe6\xf8\xe5\xc6\xd8\xc5", "]^\\-a"]),
)
def test_nothing_but_the_alphabet_is_left(text: str, alphabet: str) -> None:
    for prepared in (text, normalize(text)):
        reduced = readable(prepared, alphabet)
        assert set(reduced.text) <= set(alphabet) | {" ", "\n"}
        assert list(reduced.tracked.places) == sorted(reduced.tracked.places)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=DEMO + " ", max_size=60))
def test_reading_twice_changes_nothing(text: str) -> None:
    once = readable(text, DEMO).text
    assert readable(once, DEMO).text == once
