"""Growing text is cut where a reader would pause, whatever the portions in which it came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.speech.live.cutter import Cutter, Schedule, Stretch
from serve_app.speech.text.splitting import Break

EVERY_CLAUSE = Schedule(num_clauses=10**6)
WORDS = [
    "Well,", "the", "price", "is", "$1,234.50", "(about", "half)", "on", "July", "4,", "2026.", "Dr.", "Smith", "said:",
    '"Go', 'away!"', "at", "5", "p.m.", "See", "https://example.com/a,b.c?d=1.", "No.", "7", "\u4f60\u597d\uff0c",
    "**very", "bold**", "\n\n", "\n-", "1.", "U.S.", "e.g.", "-", "\u2014", "?", "\U0001f600", "x" * 40, "3.", "[a", "link](http://x.y)",
]  # fmt: skip
TEXTS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(["", " ", "  ", "\n"])), max_size=40).map(
    lambda pairs: "".join(word + space for word, space in pairs)
)


def cut(portions: list[str], longest_words: int = 40, schedule: Schedule = EVERY_CLAUSE) -> list[Stretch]:
    cutter = Cutter(longest_words, schedule)
    return [stretch for portion in portions for stretch in cutter.feed(portion)] + cutter.flush()


def texts(text: str, longest_words: int = 40, schedule: Schedule = EVERY_CLAUSE) -> list[str]:
    return [stretch.text.strip() for stretch in cut([text], longest_words, schedule)]


@given(TEXTS, st.lists(st.integers(1, 9), min_size=1), st.sampled_from([6, 12, 40]))
def test_the_portions_do_not_matter(text: str, sizes: list[int], longest_words: int) -> None:
    portions, rest = [], text
    while rest:
        size = sizes[len(portions) % len(sizes)]
        portions.append(rest[:size])
        rest = rest[size:]
    assert cut(portions, longest_words) == cut([text], longest_words) == cut(list(text), longest_words)


@given(TEXTS, st.sampled_from([6, 40]))
def test_every_character_is_in_one_stretch(text: str, longest_words: int) -> None:
    stretches = cut([text], longest_words)
    assert "".join(stretch.text for stretch in stretches).rstrip() == text.rstrip()
    assert [stretch.start for stretch in stretches][1:] == [stretch.end for stretch in stretches][:-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs $1,234.50 in all, he said.", ["It costs $1,234.50 in all,", "he said."]),
        ("We met on July 4, 2026, at noon.", ["We met on July 4, 2026,", "at noon."]),
        ("I have asked Dr. Smith about it.", ["I have asked Dr. Smith about it."]),
        ("He stands 5 ft. 3 in. tall today.", ["He stands 5 ft. 3 in. tall today."]),
        ("Please look at No. 5 for that.", ["Please look at No. 5 for that."]),
        ("Look at https://example.com/a,b.c?d=1. It works.", ["Look at https://example.com/a,b.c?d=1.", "It works."]),
        ("She wrote it, e.g. in the U.S. Army.", ["She wrote it, e.g. in the U.S. Army."]),
        ("That is **very. Very** important now. Yes.", ["That is **very. Very** important now.", "Yes."]),
        ("One two three four\n1. First of them\n2. Next", ["One two three four", "1. First of them", "2. Next"]),
        ('He told me "stop." she said again.', ['He told me "stop." she said again.']),
        ("\u4f60\u597d\u5417\u5462\u3002\u597d", ["\u4f60\u597d\u5417\u5462\u3002", "\u597d"]),
    ],
    ids=["amount", "date", "title", "units", "number", "address", "initials", "markdown", "list", "quote", "script"],
)  # fmt: skip
def test_what_belongs_together_stays_together(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_nothing_is_cut_before_the_character_behind_it_is_known() -> None:
    cutter = Cutter(40, EVERY_CLAUSE)
    assert cutter.feed("It costs all of 3.") == []
    assert cutter.feed("50 dollars, ") == []
    assert [stretch.text for stretch in cutter.feed("y")] == ["It costs all of 3.50 dollars, "]


def test_only_the_first_stretches_after_a_flush_end_at_a_clause() -> None:
    text = "One two three four, five six seven eight, nine. "
    cutter = Cutter(40, Schedule(num_clauses=1))
    found = [cutter.feed(text + text) + cutter.flush() for _ in range(2)]
    rest = "five six seven eight, nine."
    assert [[s.text.strip() for s in stretches] for stretches in found] == [
        ["One two three four,", rest, text.strip()]
    ] * 2


def test_a_schedule_asks_for_more_characters_first() -> None:
    text = "One two three four. " * 6
    longer = Schedule(least_chars=(30, 60))
    assert [len(stretch) for stretch in texts(text, schedule=longer)] == [39, 59, 19]


def test_a_long_sentence_is_cut_at_its_latest_clause_and_one_without_clauses_between_words() -> None:
    once = Schedule(num_clauses=0)
    assert texts("One two three four, five six, seven eight nine ten.", 8, once) == [
        "One two three four, five six,",
        "seven eight nine ten.",
    ]
    assert [len(found.split()) for found in texts("word " * 20, 8, once)] == [8, 8, 4]


def test_what_is_kept_stays_bounded() -> None:
    cutter = Cutter(40, Schedule())
    assert sum(len(stretch.text) for stretch in cutter.feed("x" * 100_000)) >= 99_000


def test_a_waiting_listener_gets_the_clauses_that_are_complete() -> None:
    cutter = Cutter(40, Schedule(num_clauses=0))
    cutter.feed("One two three four, five")
    assert [(s.text, s.ends_with) for s in cutter.settle(is_quiet=False)] == [("One two three four, ", Break.CLAUSE)]
    assert cutter.settle(is_quiet=True) == []


@pytest.mark.parametrize(
    ("text", "is_spoken"),
    [("Yes, sir.", True), ("Is it?", True), ("It costs 3.", False), ("I asked Dr.", False), ("I asked", False)],
)
def test_a_sentence_that_reads_as_ended_is_spoken_once_nothing_more_comes(text: str, is_spoken: bool) -> None:
    cutter = Cutter(40, Schedule())
    cutter.feed(text)
    assert cutter.settle(is_quiet=False) == []
    assert bool(cutter.settle(is_quiet=True)) == is_spoken
