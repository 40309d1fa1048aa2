"""A text is split where a reader pauses, into pieces of bounded length, and no word is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.splitting import Break, pieces
from serve_app.speech.text.tables import listed

_WORDS = listed(
    """
    the fox, jumps over lazy dog. Yes! No? Dr. Smith (who) J. R. said: hello; and then 555-867-5309 $1,234.50 U.S. ...
    etc. antidisestablishmentarianism \u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093\u306b\u3061\u306f\u3002
    \U0001f600 e\u0301
    """
)
PROSE = st.lists(st.sampled_from([*_WORDS, "\n\n"]), max_size=60).map(" ".join)
ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=80)


def _bare(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=200, deadline=None)
@given(PROSE | ANY_TEXT, st.integers(1, 30), st.booleans())
def test_no_character_is_lost_and_no_piece_is_too_long(text: str, longest: int, normalised: bool) -> None:
    prepared = normalize(text) if normalised else text
    found = pieces(prepared, longest)
    assert _bare("".join(piece.text for piece in found)) == _bare(
        prepared if isinstance(prepared, str) else prepared.text
    )
    assert all(piece.num_words <= longest for piece in found)


@settings(max_examples=200, deadline=None)
@given(PROSE | ANY_TEXT, st.integers(1, 30))
def test_spans_follow_one_another_in_the_typed_text(text: str, longest: int) -> None:
    end = 0
    for piece in pieces(normalize(text), longest):
        assert end <= piece.start <= piece.end <= len(text)
        end = piece.end


def test_a_span_holds_the_words_as_they_were_typed() -> None:
    typed = "Dr. Smith owes me $1,234.50 since May 5. He is **very** late! \U0001f600 I wrote to him twice, in vain."
    found = pieces(normalize(typed), 14)
    assert [typed[piece.start : piece.end].strip() for piece in found] == [
        "Dr. Smith owes me",
        "$1,234.50 since May 5.",
        "He is **very** late! \U0001f600",
        "I wrote to him twice, in vain.",
    ]
    assert found[1].text == "dollars and fifty cents since May fifth."


@pytest.mark.parametrize(
    "sentences",
    [
        ["Dr. Smith went to Washington today.", "He met Mr. Jones at the station."],
        ['He said to me "Go away now."', "Then he left the house again."],
        ["Is this really the right one?", "Yes, this is the right one!", "That is all that I know..."],
        ["I have lived in the U.S. for years.", "It was a nice time for me."],
        ["See fig. 3 for the figures of it.", "J. R. R. Tolkien did not write it."],
        ["This costs 5.50 and not a cent less.", "Version 2.0 was much better than it."],
        ["So tall a man as I.", "He is taller than I am."],
        ["The answer to that is plainly no.", "Then he asked me once more."],
    ],
)
@pytest.mark.parametrize("normalised", [True, False])
def test_a_text_is_split_at_its_sentences(sentences: list[str], normalised: bool) -> None:
    typed = " ".join(sentences)
    found = pieces(normalize(typed) if normalised else typed, 25)
    assert [typed[piece.start : piece.end].strip() for piece in found] == sentences
    assert all(piece.ends_with >= Break.SENTENCE for piece in found)


def test_scripts_without_spaces_are_split_at_their_own_marks() -> None:
    found = pieces(normalize("\u4f60\u597d\u4e16\u754c\u3002\u6211\u4eec\u90fd\u5f88\u597d\uff0c\u8c22\u8c22\u3002"), 8)
    assert [piece.text for piece in found] == [
        "\u4f60\u597d\u4e16\u754c\u3002",
        "\u6211\u4eec\u90fd\u5f88\u597d\uff0c\u8c22\u8c22\u3002",
    ]


def test_a_long_sentence_is_cut_at_clauses_into_parts_of_like_length() -> None:
    text = (
        "When the rain had stopped at last, we went out into the garden, picked the last of the apples, and came home."
    )
    assert [piece.text for piece in pieces(text, 14)] == [
        "When the rain had stopped at last, we went out into the garden,",
        "picked the last of the apples, and came home.",
    ]


def test_a_clause_that_is_too_long_is_cut_between_words() -> None:
    found = pieces(" ".join(["word"] * 30), 12)
    assert [piece.num_words for piece in found] == [10, 10, 10]
    assert [piece.ends_with for piece in found] == [Break.WORD, Break.WORD, Break.PARAGRAPH]


def test_very_short_sentences_are_spoken_together() -> None:
    assert [piece.text for piece in pieces("Yes. No. Well, who knows. He came home late that night.", 10)] == [
        "Yes. No. Well, who knows.",
        "He came home late that night.",
    ]


def test_the_end_of_a_paragraph_is_told_from_that_of_a_sentence() -> None:
    found = pieces(normalize("The first one is here. The second one is here.\n\nThe third one is here."), 6)
    assert [piece.ends_with for piece in found] == [Break.SENTENCE, Break.PARAGRAPH, Break.PARAGRAPH]
    assert not any("\n" in piece.text for piece in found)


def test_an_empty_text_has_no_pieces() -> None:
    assert pieces("", 10) == ()
    assert pieces(" \n ", 10) == ()


def test_a_limit_below_one_word_is_refused() -> None:
    with pytest.raises(ValueError, match="longest_words"):
        pieces("Hello.", 0)
