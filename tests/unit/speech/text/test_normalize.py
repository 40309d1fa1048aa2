"""Whatever is typed is normalised without an error, and what is left out is told."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.prepared import Notice
from serve_app.speech.text.tables import listed

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=60)  # lone surrogates too
_TRICKY = listed(
    """
    $ % 5 1,000 3.5 - 10:30 2025-05-25 1/2 # @ a.b.c http:// ** _ [x]( ) | <b> &amp; Dr. U.S. IV \xbd \U0001f600 \xe9
    \u4f60 \u0645 . ! ? am km ^2 \xd7 ' \" ~ v1.2 5' 90s
    """
)
NOISE = st.lists(st.sampled_from([*_TRICKY, "\n", " "]), max_size=14).map("".join)


def _is_no_abbreviation(word: str) -> bool:
    """ "hr." is one."""
    return all(normalize(form).text == form for form in (word, f"{word}."))


PLAIN_WORD = st.from_regex(r"[a-z]{2,9}", fullmatch=True).filter(_is_no_abbreviation)


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT | NOISE)
def test_any_text_becomes_words_and_plain_punctuation(text: str) -> None:
    spoken = normalize(text).text
    english = any("a" <= char.lower() <= "z" for char in spoken)
    for char in spoken:
        assert unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn") or char == "\n"
        if english and ord(char) < 128:
            assert char.isalpha() or char in " \n.,?!;:'\"()-" or max(spoken) > "\u0250", char


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT | NOISE)
def test_places_lead_back_into_the_typed_text_in_order(text: str) -> None:
    tracked = normalize(text).tracked
    assert len(tracked.places) == len(tracked.text)
    assert list(tracked.places) == sorted(tracked.places)
    assert not tracked.text or tracked.places[-1] < len(text) >= tracked.end


@settings(max_examples=100, deadline=None)
@given(st.lists(PLAIN_WORD, min_size=1, max_size=12))
def test_plain_words_stay_as_they_are(words: list[str]) -> None:
    text = " ".join(words) + "."
    assert normalize(text).text == text


@settings(max_examples=100, deadline=None)
@given(NOISE)
def test_a_normalised_text_holds_no_digit_of_an_english_text(text: str) -> None:
    spoken = normalize("English words. " + text.replace("你", "").replace("م", "")).text
    assert not any(char in "0123456789" for char in spoken)


@pytest.mark.parametrize("text", ["", "   \n ", "*", "!!!", "\u200b", "\ud800", "---", "\U000f0000", "<br>", "()"])
def test_a_text_of_nothing_speakable_is_empty(text: str) -> None:
    assert normalize(text).text == ""


def test_what_is_dropped_is_told_by_kind_and_number() -> None:
    prepared = normalize("One \U0001f600 two \U0001f44d\U0001f3fd three \ud800 four \x07 five \u2603\ufe0f \u25b3")
    assert prepared.text == "One two three four five"
    assert prepared.notices == (
        Notice("emoji", 3),
        Notice("broken characters", 1),
        Notice("control characters", 1),
        Notice("signs without a name", 1),
    )
    assert all(str(notice).isascii() for notice in prepared.notices)


def test_invisible_characters_are_no_loss() -> None:
    assert normalize("zero\u200bwidth \u202aand\u202c marks").notices == ()


@pytest.mark.parametrize("text", ["Jeg har 3 katte & 2 hunde.", "Das kostet 5 \u20ac.", "Dr. M\xfcller"])
def test_another_language_keeps_its_numbers_and_signs(text: str) -> None:
    assert normalize(text, language="da").text == text


def test_another_language_loses_markup_and_odd_spaces_all_the_same() -> None:
    assert normalize("# Hej\n\n**s\xf8de**\xa0 <b>venner</b> \U0001f600", language="da").text == "Hej.\ns\xf8de venner"


def test_a_paragraph_in_another_script_keeps_its_digits_beside_an_english_one() -> None:
    assert normalize("I am 5.\n\n\u6211 5 \u5c81\u3002").text == "I am five.\n\u6211 5 \u5c81\u3002"
