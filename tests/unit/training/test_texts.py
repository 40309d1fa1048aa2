"""What is kept for the test does not come up in training."""

import re
from itertools import islice
from pathlib import Path

import pytest

from training import texts
from training.texts import Sentences, all_words, read_lines

NEVER_MET = read_lines("words_never_met.txt")


@pytest.fixture(autouse=True)
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like SCOWL's, with every word that must not come up, and some that is no plain word."""
    for size in (10, 20, 35):
        words = [*NEVER_MET, *read_lines("words_in_training.txt"), "O'Brien", "x", "na\xefve"]
        (tmp_path / f"english-words.{size}").write_text("\n".join(words), encoding="latin-1")
    monkeypatch.setattr(texts, "_FOLDER", tmp_path)


def test_words_are_kept_back() -> None:
    said = {word for text in islice(Sentences(0), 2000) for word in re.findall("[a-z']+", text.lower())}
    assert not said & set(NEVER_MET) and not set(all_words()) & set(NEVER_MET)
    assert said >= set(read_lines("words_in_training.txt"))
    assert not {"o'brien", "x"} & said


def test_sentences_are_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(islice(Sentences(0), 20))
    monkeypatch.setattr(texts, "read_lines", lambda name: first[:1] if name == "sentences.txt" else [])
    assert next(iter(Sentences(0))) != first[0]


def test_the_same_seed_says_the_same() -> None:
    one, same, other = (list(islice(Sentences(seed), 50)) for seed in (0, 0, 1))
    assert one == same != other
    assert {1, 24} <= {len(text.split()) for text in islice(Sentences(0), 2000)}


def test_the_test_texts_are_what_the_readme_says() -> None:
    sentences = read_lines("sentences.txt")
    assert len(set(sentences)) == 50 and {len(text.split()) for text in sentences} <= set(range(3, 21))
    assert sum(text.endswith("?") for text in sentences) >= 5
    assert len(set(NEVER_MET)) == 100 and len({*NEVER_MET, *read_lines("words_in_training.txt")}) == 300
