"""How far streams run ahead of their listeners, and what that leaves to the others."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from serve_app.messages import FRAME_RATE_HZ, FinishReason
from tests.support.engine_harness import Harness, Stream, request
from tests.support.timed_engine import Timed, spoken


def num_sent(stream: Stream) -> int:
    return stream.codes.num_frames if stream.messages else 0


def test_a_paced_stream_stays_within_its_lead_and_never_falls_behind() -> None:
    timed = Timed({1: 20.0}, max_lead_seconds=3)
    stream = timed.add(spoken(200, paced=True))
    timed.engine.step()
    began_at, leads = timed.now, []
    while timed.engine.step():
        timed.now += timed.engine.rest_seconds()
        leads.append(num_sent(stream) / FRAME_RATE_HZ - (timed.now - began_at))
    assert max(leads) == pytest.approx(3, abs=0.4)
    assert min(leads[200:]) > 1.5
    assert stream.finish is FinishReason.LENGTH
    assert num_sent(stream) == 200
    assert timed.now - began_at == pytest.approx(200 / FRAME_RATE_HZ - 3, abs=1.1)


@pytest.mark.parametrize(
    ("paced", "max_lead_seconds"), [(False, 3), (True, 0)], ids=["nobody listens", "no limit is set"]
)
def test_other_sequences_are_not_held(paced: bool, max_lead_seconds: float) -> None:
    timed = Timed({1: 20.0}, max_lead_seconds=max_lead_seconds)
    timed.add(spoken(200, paced=paced))
    timed.run_for()
    assert timed.now == pytest.approx(200 * 0.02)
    assert timed.rested_seconds == 0


def test_an_engine_whose_streams_all_pause_rests_instead_of_spinning() -> None:
    timed = Timed(max_batch_size=4, max_lead_seconds=2)
    streams = [timed.add(spoken(100, str(number), paced=True)) for number in range(4)]
    num_steps = 0
    while timed.engine.step():
        timed.now += timed.engine.rest_seconds()
        num_steps += 1
    assert [num_sent(stream) for stream in streams] == [100] * 4
    assert timed.now == pytest.approx(100 / FRAME_RATE_HZ - 2, abs=1.1)
    assert num_steps < 250


@pytest.mark.parametrize(
    ("paced", "another_key", "rests"),
    [(False, True, True), (True, True, False), (False, False, False)],
    ids=["nobody listens", "somebody listens", "no other key came"],
)
def test_what_nobody_listens_to_leaves_a_busy_processor_to_other_keys(
    paced: bool, another_key: bool, rests: bool
) -> None:
    timed = Timed({1: 20.0}, max_lead_seconds=0)
    if another_key:
        timed.add(spoken(1, "other", owner="other"))
        timed.run_for()
    timed.kept_waiting = 0.01
    timed.add(spoken(100, paced=paced, owner="many"))
    timed.run_for()
    # Longer than it waited: as long would leave the machine as full as it is.
    assert timed.rested_seconds == pytest.approx(rests * 100 * 0.08, abs=0.2)


@pytest.mark.parametrize(("paced", "seconds"), [(True, 3.3), (False, 8.0)], ids=["paced", "not paced"])
def test_paused_streams_make_steps_smaller_for_the_others(paced: bool, seconds: float) -> None:
    timed = Timed({1: 10.0, 4: 40.0}, max_batch_size=4, max_lead_seconds=5)
    for number in range(3):
        timed.add(spoken(1100, str(number), paced=paced))
    timed.run_for(6)
    job, began_at = timed.add(spoken(200, "job")), timed.now
    while job.finish is None:
        timed.run_for(0.001)
    assert timed.now - began_at == pytest.approx(seconds, abs=0.3)


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_a_listener_at_another_speed_is_led_by_as_many_seconds_of_its_own(speed: float) -> None:
    timed = Timed({1: 10.0}, max_lead_seconds=3)
    stream = timed.add(spoken(400, paced=True, speed=speed))
    began_at, leads = timed.now, []
    while timed.engine.step():
        timed.now += timed.engine.rest_seconds()
        leads.append(num_sent(stream) / FRAME_RATE_HZ / speed - (timed.now - began_at))
    assert max(leads) == pytest.approx(3, abs=0.4)
    assert min(leads[200:]) > 1.5
    assert timed.now - began_at == pytest.approx(400 / FRAME_RATE_HZ / speed - 3, abs=1.1)


def test_a_stream_that_fell_behind_is_not_held_for_what_it_could_not_send() -> None:
    timed = Timed({1: 200.0}, max_lead_seconds=1)
    stream = timed.add(spoken(1000, paced=True))
    timed.run_for(10)
    assert stream.sequence is not None
    timed.runner._settings = timed.runner._settings.model_copy(update={"step_ms_by_batch": {1: 1.0}})
    timed.run_for(10)
    assert stream.sequence.played_out_at - timed.now <= 1.5


def test_the_lead_of_earlier_turns_counts() -> None:
    timed = Timed(max_lead_seconds=4)
    stream = timed.add(spoken(100, paced=True, lead_seconds=3.0))
    timed.run_for(0.1)
    assert num_sent(stream) == pytest.approx(1.1 * FRAME_RATE_HZ, abs=4)


def warmed_up(step_ms: float, **settings: float) -> Timed:
    """It knows how long a step takes, as after a service's start."""
    timed = Timed({1: step_ms}, **settings)
    timed.add(spoken(8, "warm-up"))
    timed.run_for()
    return timed


def underrun_seconds(timed: Timed, stream: Stream) -> float:
    """How long a player without a buffer of its own stands still, if messages reach it at once."""
    played_out_at, missing, num_before = 0.0, 0.0, 0
    while timed.engine.step():
        timed.now += timed.engine.rest_seconds()
        if num_new := num_sent(stream) - num_before:
            missing += max(0.0, timed.now - played_out_at) if num_before else 0.0
            played_out_at = max(played_out_at, timed.now) + num_new / FRAME_RATE_HZ
            num_before += num_new
    return missing


@pytest.mark.parametrize("step_ms", [5.0, 40.0, 60.0, 72.0, 79.0])
def test_no_message_grows_while_its_listener_runs_dry(step_ms: float) -> None:
    timed = warmed_up(step_ms, max_lead_seconds=5)
    assert underrun_seconds(timed, timed.add(spoken(150, paced=True))) == 0


def test_messages_that_grow_whatever_the_listener_has_make_a_slow_engine_stutter() -> None:
    timed = warmed_up(72.0, max_lead_seconds=5, chunk_reserve_ms=0)
    assert underrun_seconds(timed, timed.add(spoken(150, paced=True))) > 0.1


def test_a_listener_with_enough_in_hand_gets_full_messages() -> None:
    timed = warmed_up(60.0, max_lead_seconds=5)
    stream = timed.add(spoken(150, paced=True))
    timed.run_for()
    sizes = [message.codes.num_frames for message in stream.messages]
    assert sizes[:3] == [1, 1, 1]
    assert min(sizes[-4:-1]) >= 8


def test_what_a_client_does_not_read_is_bounded_by_the_longest_answer_and_by_the_lead_where_it_is_paced() -> None:
    """Every message that the engine sends waits in memory for such a client: the engine never learns of it."""
    timed = Timed(max_batch_size=2, max_lead_seconds=10)
    whole, paced = timed.add(spoken(1125, "whole")), timed.add(spoken(1125, "paced", paced=True))
    timed.run_for(0.01)
    held = [sum(len(message.codes.data) for message in stream.messages) for stream in (whole, paced)]
    assert held[0] == 1125 * 64
    assert held[1] <= (10 * FRAME_RATE_HZ + 12) * 64


def test_pausing_changes_no_frame(tiny_checkpoint_folder: Path) -> None:
    torch.set_num_threads(1)
    exact = Harness(tiny_checkpoint_folder, torch.float64, max_lead_seconds=0.6)
    asked = [request(f"Stream {n}.", seed=n, max_frames=16 + 3 * n, repetition_penalty=1.2) for n in range(4)]
    alone = [exact.run(one)[0].frames for one in asked]
    exact.reset()
    streams = []
    for number, one in enumerate(asked):
        streams.append(exact.add(replace(one, paced=number != 2)))
        for _ in range(3):
            exact.engine.step()
            exact.now += 0.02
    num_paused = []
    while exact.engine.step():
        num_paused.append(exact.engine.stats().paused)
        exact.now += 0.02 + exact.engine.rest_seconds()
    assert [stream.frames for stream in streams] == alone
    assert max(num_paused) >= 2
