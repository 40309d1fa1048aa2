"""What is remembered of recent requests, and for how long."""

import pytest

from serve_app.errors import UnknownRequest
from serve_app.messages import FinishReason
from serve_app.speech.outcomes import Outcome, RecentOutcomes

OWNER = "csm_1"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_the_latest_news_of_a_request_is_kept() -> None:
    outcomes = RecentOutcomes(Clock())
    outcomes.record(OWNER, Outcome("a", 1))
    outcomes.record(OWNER, Outcome("a", 1, 25, FinishReason.EOS))
    assert outcomes.get(OWNER, "a") == Outcome("a", 1, 25, FinishReason.EOS)
    assert outcomes.get(OWNER, "a").audio_seconds == 2.0


def test_a_request_that_was_never_heard_of_is_unknown() -> None:
    with pytest.raises(UnknownRequest, match="request nobody is not known"):
        RecentOutcomes(Clock()).get(OWNER, "nobody")


def test_a_request_is_known_for_ten_minutes() -> None:
    clock = Clock()
    outcomes = RecentOutcomes(clock)
    outcomes.record(OWNER, Outcome("a", 1))
    clock.seconds += 600
    assert outcomes.get(OWNER, "a").seed == 1
    clock.seconds += 1
    with pytest.raises(UnknownRequest):
        outcomes.get(OWNER, "a")


def test_news_begin_the_ten_minutes_again() -> None:
    clock = Clock()
    outcomes = RecentOutcomes(clock)
    outcomes.record(OWNER, Outcome("running", 1))
    outcomes.record(OWNER, Outcome("ended", 2))
    clock.seconds += 500
    outcomes.record(OWNER, Outcome("running", 1, 50))
    clock.seconds += 500
    assert outcomes.get(OWNER, "running").num_frames == 50
    with pytest.raises(UnknownRequest):
        outcomes.get(OWNER, "ended")


def test_a_request_that_was_forgotten_while_it_ran_is_known_again_with_its_next_news() -> None:
    clock = Clock()
    outcomes = RecentOutcomes(clock)
    outcomes.record(OWNER, Outcome("slow reader", 1))
    clock.seconds += 10_000
    outcomes.record(OWNER, Outcome("slow reader", 1, 4))
    assert outcomes.get(OWNER, "slow reader").num_frames == 4


def test_memory_is_bounded_by_dropping_the_oldest() -> None:
    outcomes = RecentOutcomes(Clock())
    for number in range(10_001):
        outcomes.record(OWNER, Outcome(str(number), number))
    assert outcomes.get(OWNER, "10000").seed == 10_000
    assert outcomes.get(OWNER, "1").seed == 1
    with pytest.raises(UnknownRequest):
        outcomes.get(OWNER, "0")


def test_each_turn_begins_where_its_sound_does() -> None:
    outcome = Outcome("a", 1).heard(2, 0, 0).heard(3, 0, 4).heard(1, 2, 4).heard(0, 3, 9)
    assert (outcome.num_frames, outcome.spoken_chars) == (6, 9)
    assert outcome.turn_starts == (0, 5, 5), "a silent turn begins where the next one does"
    assert outcome.turn_start_seconds == [0, 0.4, 0.4]
