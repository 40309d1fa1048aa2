"""The simulation agrees with what queueing theory knows exactly."""

from random import Random
from statistics import mean

import pytest

from serve_app.capacity.simulation import FRAME_SECONDS, Engine, Growth, Request, Simulation, arrivals

SECONDS = 4000.0


def poisson(rate: float, mean_frames: float, seconds: float = SECONDS) -> list[Request]:
    return list(arrivals(lambda now: rate, seconds, mean_frames, 1.0, Random(7)))


def test_a_single_slot_waits_as_an_m_m_1_queue_does() -> None:
    """At half load, a request waits on average as long as it is served."""
    engine = Engine(1, lambda rows: 20.0, lead_seconds=1e9, max_waiting=10_000, max_wait_seconds=1e9)
    served_seconds, rate = 50 * 0.020, 0.5
    outcome = Simulation(engine, 1, warm_up_seconds=100.0).run(poisson(rate, 50), SECONDS)
    waited = mean(outcome.first_frame_seconds) - 0.020
    assert waited == pytest.approx(served_seconds * rate / (1 - rate), rel=0.15)


def test_rows_at_work_follow_littles_law() -> None:
    engine = Engine(1000, lambda rows: 40.0, lead_seconds=1e9)
    outcome = Simulation(engine, 1).run(poisson(3.0, 100, 600.0), 600.0)
    assert outcome.row_seconds / 600 == pytest.approx(3.0 * 100 * 0.040, rel=0.1)


def test_a_step_takes_as_long_as_its_rows_need() -> None:
    engine = Engine(4, {1: 10.0, 2: 30.0}.__getitem__, prefill_ms=5.0)
    outcome = Simulation(engine, 1).run([Request(0.0, 2), Request(0.0, 1)], 10.0)
    assert outcome.first_frame_seconds == pytest.approx([0.040, 0.040])
    assert outcome.busy_seconds == pytest.approx(0.040 + 0.010)


def test_a_stream_that_is_far_ahead_pauses_and_keeps_its_slot() -> None:
    frames = 100
    engine = Engine(1, lambda rows: 1.0, lead_seconds=4.0)
    outcome = Simulation(engine, 1).run([Request(0.0, frames), Request(0.1, 1)], 60.0)
    first_ends = frames * FRAME_SECONDS - engine.lead_seconds
    assert outcome.first_frame_seconds[1] == pytest.approx(first_ends - 0.1, abs=0.1)


def test_who_finds_no_place_or_waits_for_too_long_is_refused() -> None:
    engine = Engine(1, lambda rows: 100.0, max_waiting=1, max_wait_seconds=1.0)
    outcome = Simulation(engine, 1).run([Request(0.0, 50), Request(0.1, 1), Request(0.2, 1)], 20.0)
    assert (len(outcome.first_frame_seconds), outcome.refused) == (1, 2)


def test_replicas_come_after_their_delay_and_take_the_waiting() -> None:
    engine = Engine(1, lambda rows: 100.0, max_waiting=10, max_wait_seconds=60.0)
    requests = [Request(0.0, 600), Request(0.1, 600)]
    alone = Simulation(engine, 1).run(requests, 50.0)
    grown = Simulation(engine, 1).run(requests, 100.0, Growth(most=3, start_seconds=20.0, delay_seconds=5.0))
    assert (alone.replicas, len(alone.first_frame_seconds)) == (1, 1)
    assert grown.replicas == 3
    assert 25 <= grown.first_frame_seconds[1] <= 28, "two seconds to see it, five of delay, twenty to start"


def test_the_same_seed_gives_the_same_requests_and_bursts_have_the_same_mean() -> None:
    def some(burstiness: float) -> list[Request]:
        return list(arrivals(lambda now: 5.0, 2000.0, 100.0, burstiness, Random(3)))

    assert some(1.0) == some(1.0)
    for burstiness in (0.2, 1.0, 5.0):
        assert len(some(burstiness)) == pytest.approx(10_000, rel=0.1)
    assert mean(request.frames for request in some(1.0)) == pytest.approx(100, rel=0.05)
