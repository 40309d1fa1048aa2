"""Seeds of the parts of an answer."""

import pytest

from serve_app.messages import MAX_SEED
from serve_app.speech.seeds import sub_seed


@pytest.mark.parametrize("seed", [0, 7, MAX_SEED])
def test_the_first_turn_has_the_seed_of_the_answer(seed: int) -> None:
    assert sub_seed(seed, 0) == seed


def test_turns_of_one_answer_and_answers_of_other_seeds_share_no_seed() -> None:
    seeds = [sub_seed(seed, turn) for seed in (0, 1, 2, 12) for turn in range(32)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("turn", range(32))
def test_every_turns_seed_is_one_that_a_caller_could_send(turn: int) -> None:
    assert 0 <= sub_seed(MAX_SEED, turn) <= MAX_SEED


def test_a_turns_seed_is_the_same_in_every_process() -> None:
    assert sub_seed(42, 1) == 6478890928803595225


def test_each_attempt_at_a_turn_has_a_seed_of_its_own() -> None:
    seeds = [sub_seed(7, turn, attempt) for turn in range(8) for attempt in range(3)]
    assert len(set(seeds)) == len(seeds)
    assert sub_seed(7, 0, 0) == 7
