"""Codes and logits beside each other."""

import math

import numpy as np
import pytest

from serve_app.verify.agreement import first_difference, largest_difference, regrets


def test_equal_codes_have_no_difference() -> None:
    codes = np.arange(12).reshape(3, 4)
    assert first_difference(codes, codes.copy()) is None


def test_the_first_difference_is_in_the_order_of_drawing() -> None:
    theirs = np.zeros((3, 4), dtype=np.int64)
    ours = theirs.copy()
    ours[2, 0], ours[1, 3] = 5, 7
    assert str(first_difference(ours, theirs)) == "frame 1, codebook 3: 7, transformers has 0"


@pytest.mark.parametrize(("ours", "theirs", "who"), [(2, 3, "ours"), (3, 1, "transformers")])
def test_one_that_ends_early_differs_where_it_ends(ours: int, theirs: int, who: str) -> None:
    codes = np.ones((3, 4), dtype=np.int64)
    assert str(first_difference(codes[:ours], codes[:theirs])) == f"{who} ends before frame {min(ours, theirs)}"


def test_differences_of_logits_are_relative_to_their_spread() -> None:
    theirs = np.random.default_rng(0).normal(0, 10, (2, 3, 1000))
    ours = theirs.copy()
    ours[1, 2, 17] += 0.5
    absolute, relative = largest_difference(ours, theirs)
    assert absolute == pytest.approx(0.5)
    assert relative == pytest.approx(0.05, rel=0.1)


def test_what_is_no_number_differs_by_all() -> None:
    logits = np.zeros((1, 1, 4))
    assert largest_difference(np.full_like(logits, np.nan), logits) == (math.inf, math.inf)


def test_a_favourite_is_not_regretted_and_a_random_code_is() -> None:
    logits = np.random.default_rng(1).normal(0, 5, (20, 8, 2048))
    best = logits.argmax(axis=-1)
    assert regrets(logits, best).max() == 0
    assert 3 < regrets(logits, np.roll(best, 1, axis=0)).mean() < 4


def test_regret_does_not_depend_on_the_logits_scale() -> None:
    logits = np.random.default_rng(2).normal(size=(4, 2, 64))
    codes = np.zeros((4, 2), dtype=np.int64)
    np.testing.assert_allclose(regrets(logits * 1000, codes), regrets(logits, codes))
