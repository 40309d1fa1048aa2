"""Who is let in, by measured step time; who waits, who is refused, and what is told to those who come too late."""

import pytest

from serve_app.errors import Overloaded
from tests.support.timed_engine import Timed, spoken

TABLE = {1: 12.0, 19: 129.0}
FITTING, FITTING_MS = 10, 70.5


def measured(**settings: int | float) -> Timed:
    """Both ends of the table are known, as after the warm-up."""
    timed = Timed(TABLE, **({"max_batch_size": 19} | settings))
    for num_sequences in (timed.engine.stats().slots, 1):
        for number in range(num_sequences):
            timed.add(spoken(8, f"warm-up {number}", priority=-1))
        timed.run_for()
    return timed


def test_as_many_run_as_keep_real_time_and_the_others_wait_for_one_to_end() -> None:
    timed = measured()
    streams = [timed.add(spoken(20 + number, str(number))) for number in range(14)]
    timed.run_for(1.0)
    stats = timed.engine.stats()
    assert (stats.running, stats.waiting, stats.capacity) == (FITTING, 4, FITTING)
    assert stats.step_ms == pytest.approx(FITTING_MS)
    assert stats.oldest_wait_seconds >= 1
    assert [stream.accepted is not None for stream in streams] == [True] * FITTING + [False] * 4
    timed.run_for()
    assert all(stream.accepted and stream.finish for stream in streams)
    assert timed.engine.stats().refused == 0


def test_no_stream_falls_behind_its_listener_however_many_ask() -> None:
    timed = measured(max_waiting=40, max_wait_seconds=30)
    streams = [timed.add(spoken(60, str(number))) for number in range(45)]
    late: list[float] = []
    while timed.engine.step():
        late += [timed.now - s.sequence.played_out_at for s in streams if s.sequence and s.messages and not s.finish]
    assert max(late) <= 0


def test_hardware_slower_than_real_time_serves_one_after_the_other() -> None:
    timed = Timed({1: 200.0}, max_batch_size=4)
    timed.add(spoken(8, "first"))
    timed.run_for()
    streams = [timed.add(spoken(5, str(number))) for number in range(3)]
    most_running = 0
    while timed.engine.step():
        most_running = max(most_running, timed.engine.stats().running)
    assert most_running == 1
    assert all(stream.finish for stream in streams)


def test_without_a_limit_every_slot_is_given() -> None:
    timed = measured(max_step_ms=0)
    for number in range(19):
        timed.add(spoken(20, str(number)))
    timed.run_for(0.1)
    assert timed.engine.stats().running == 19


def test_a_refusal_says_when_a_slot_is_expected() -> None:
    timed = measured(max_waiting=2, max_wait_seconds=1)
    for number in range(FITTING):
        timed.add(spoken(200 + 100 * (number > 0), str(number)))
    timed.run_for(0.7)  # ten frames
    waiting = [timed.add(spoken(10, f"waits {number}")) for number in range(2)]
    with pytest.raises(Overloaded, match="10 requests are being spoken and 2 wait") as refused:
        timed.add(spoken(10, "too many"))
    assert refused.value.retry_after_seconds == pytest.approx(190 * FITTING_MS / 1000, abs=1)
    assert timed.engine.stats().refused == 1
    timed.run_for(1.1)
    for stream in waiting:
        assert stream.accepted is None
        assert isinstance(stream.error, Overloaded)
        assert 1 < stream.error.retry_after_seconds < refused.value.retry_after_seconds
    assert timed.engine.stats().refused == 3


def test_a_refusal_of_a_stream_that_ends_soon_asks_for_a_second() -> None:
    timed = measured(max_batch_size=1, max_waiting=0, max_step_ms=0)
    timed.add(spoken(3))
    with pytest.raises(Overloaded) as refused:
        timed.add(spoken(10, "too many"))
    assert refused.value.retry_after_seconds == 1


def test_background_requests_that_wait_leave_room_for_interactive_ones() -> None:
    timed = measured(max_batch_size=1, max_waiting=2, max_step_ms=0)
    for number in range(3):
        timed.add(spoken(50, f"job {number}", priority=1))
    with pytest.raises(Overloaded):
        timed.add(spoken(50, "job too many", priority=1))
    streams = [timed.add(spoken(5, str(number))) for number in range(3)]
    with pytest.raises(Overloaded):
        timed.add(spoken(5, "too many"))
    timed.run_for(1.0)
    assert all(stream.finish for stream in streams)
