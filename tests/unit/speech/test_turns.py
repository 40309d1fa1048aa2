"""Seeds and caps of the turns of an answer."""

import pytest

from serve_app.messages import MAX_SEED
from serve_app.speech.turns import frame_cap, turn_seed


@pytest.mark.parametrize("seed", [0, 7, MAX_SEED])
def test_the_first_turn_has_the_seed_of_the_answer(seed: int) -> None:
    assert turn_seed(seed, 0) == seed


def test_turns_of_one_answer_and_answers_of_other_seeds_share_no_seed() -> None:
    seeds = [turn_seed(seed, turn) for seed in (0, 1, 2, 12) for turn in range(32)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("turn", range(32))
def test_every_turns_seed_is_one_that_a_caller_could_send(turn: int) -> None:
    assert 0 <= turn_seed(MAX_SEED, turn) <= MAX_SEED


def test_a_turns_seed_is_the_same_in_every_process() -> None:
    assert turn_seed(42, 1) == 6478890928803595225


def test_the_cap_grows_with_the_text() -> None:
    caps = [frame_cap("a" * length) for length in (1, 10, 100, 1000)]
    assert caps == sorted(set(caps))


def test_a_short_text_has_seconds_to_spare() -> None:
    assert frame_cap("Hi") >= 25


def test_a_chinese_character_gets_more_time_than_a_letter() -> None:
    assert frame_cap("你好" * 20) > frame_cap("ab" * 20)
