"""Limits that change while the engine runs: whoever speaks goes on, whoever comes or waits finds the new ones."""

import pytest

from serve_app.errors import Overloaded
from serve_app.settings import EngineSettings
from tests.support.timed_engine import Timed, spoken


def reconfigure(timed: Timed, **settings: float) -> None:
    slots = timed.engine.stats().slots
    timed.engine.reconfigure(EngineSettings.model_validate({"max_batch_size": slots} | settings))


def test_more_may_wait_and_longer() -> None:
    timed = Timed({1: 10.0}, max_batch_size=1, max_waiting=0, max_wait_seconds=1, max_step_ms=0)
    first = timed.add(spoken(300, "first"))
    with pytest.raises(Overloaded):
        timed.add(spoken(5, "too many"))
    reconfigure(timed, max_waiting=1, max_wait_seconds=10, max_step_ms=0)
    second = timed.add(spoken(5, "second"))
    timed.run_for()
    assert [len(stream.frames) for stream in (first, second)] == [300, 5]


def test_a_shorter_step_lets_fewer_in_and_ends_nobody() -> None:
    timed = Timed({1: 10.0, 4: 40.0}, max_batch_size=4, max_step_ms=0)
    running = [timed.add(spoken(60, str(number))) for number in range(4)]
    timed.run_for(0.5)
    reconfigure(timed, max_step_ms=35, max_wait_seconds=60)
    late = timed.add(spoken(5, "late"))
    timed.run_for(1.0)
    assert timed.engine.stats().running == 4
    assert late.accepted is None
    timed.run_for()
    assert [len(stream.frames) for stream in [*running, late]] == [60] * 4 + [5]


def test_streams_may_run_further_ahead() -> None:
    timed = Timed({1: 10.0}, max_batch_size=1, max_lead_seconds=1)
    stream = timed.add(spoken(500, paced=True))
    timed.run_for(2.0)
    assert len(stream.frames) < 50
    reconfigure(timed, max_lead_seconds=0)
    timed.run_for(2.0)
    assert len(stream.frames) > 150


def test_messages_may_wait_to_grow_or_not() -> None:
    timed = Timed({1: 72.0}, max_lead_seconds=5, chunk_reserve_ms=0)
    timed.add(spoken(8, "warm-up"))
    timed.run_for()
    streams = [timed.add(spoken(40, "growing", paced=True))]
    timed.run_for()
    reconfigure(timed, max_lead_seconds=5, chunk_reserve_ms=40)
    streams.append(timed.add(spoken(40, "kept small", paced=True)))
    timed.run_for()
    sizes = [[message.codes.num_frames for message in stream.messages[:8]] for stream in streams]
    # The fifth may be half as long: the messages of a batch do not all end at the same frame.
    assert sizes[0] in ([1, 1, 2, 2, fifth, 4, 4, 4] for fifth in (2, 3, 4))
    assert sizes[1] == [1] * 8


def test_background_work_that_waits_is_no_wait_of_anybody() -> None:
    timed = Timed({1: 10.0}, max_batch_size=1, max_step_ms=0)
    timed.add(spoken(500, "first", priority=-1))
    timed.add(spoken(5, "job", priority=1))
    timed.run_for(2.0)
    stats = timed.engine.stats()
    assert (stats.waiting, stats.oldest_wait_seconds) == (1, 0)
    timed.add(spoken(5, "second"))
    timed.run_for(1.0)
    assert timed.engine.stats().oldest_wait_seconds == pytest.approx(1, abs=0.1)
