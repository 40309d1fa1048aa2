"""Scheduling is pure bookkeeping: no tensor is needed to test it."""

import numpy as np

from serve_app.engine.prompt import Prompt
from serve_app.engine.scheduler import AGED_SECONDS, Move, Scheduler, Swap
from serve_app.engine.sequence import Sequence
from serve_app.messages import GenerationRequest


def sequence(
    name: str, priority: int = 0, arrived_at: float = 0.0, timeout_seconds: float = 600.0, owner: str = ""
) -> Sequence:
    prompt = Prompt(np.zeros(4, np.int64), np.zeros((4, 2), np.int64), 0, 10, 0)
    request = GenerationRequest(name, "text", 0, priority=priority, timeout_seconds=timeout_seconds, owner=owner)
    return Sequence(request, prompt, lambda message: None, arrived_at)


def names(sequences: list[Sequence]) -> list[str]:
    return [s.request.request_id for s in sequences]


def decoding(*sequences: Sequence) -> Scheduler:
    scheduler = Scheduler(max_waiting=8, max_wait_seconds=10)
    for s in sequences:
        scheduler.add(s)
    scheduler.admit(len(sequences))
    for _ in sequences:
        scheduler.start_decoding()
    return scheduler


def test_lower_priority_numbers_go_first_and_arrival_decides_among_equals() -> None:
    scheduler = Scheduler(max_waiting=8, max_wait_seconds=10)
    for s in (sequence("late", 1), sequence("a"), sequence("b"), sequence("urgent", -1)):
        scheduler.add(s)
    assert names(scheduler.admit(2)) == ["urgent", "a"]
    assert scheduler.num_waiting == 2


def test_a_full_queue_refuses_and_free_rows_count_as_room() -> None:
    scheduler = Scheduler(max_waiting=1, max_wait_seconds=10)
    for name in "ab":
        assert scheduler.has_room_for(sequence(name), 1)
        scheduler.add(sequence(name))
    assert not scheduler.has_room_for(sequence("c"), 1)
    scheduler.admit(1)
    assert not scheduler.has_room_for(sequence("d"), 1)


def test_leaving_fills_the_gap_with_the_last_row() -> None:
    a, b, c = sequence("a"), sequence("b"), sequence("c")
    scheduler = decoding(a, b, c)
    assert scheduler.remove(a) == [Move(2, 0)]
    assert names(scheduler.decoding) == ["c", "b"]
    assert scheduler.remove(b) == []
    assert names(scheduler.rows) == ["c"]


def test_decoding_rows_stay_in_front_of_those_that_prefill() -> None:
    a, b, p, q = (sequence(name) for name in "abpq")
    scheduler = decoding(a, b)
    scheduler.add(p)
    scheduler.add(q)
    scheduler.admit(8)
    assert scheduler.remove(a) == [Move(1, 0), Move(3, 1)]
    assert names(scheduler.decoding) == ["b"]
    assert names(scheduler.rows) == ["b", "q", "p"]


def test_a_prefilling_sequence_can_leave() -> None:
    a, p = sequence("a"), sequence("p")
    scheduler = decoding(a)
    scheduler.add(p)
    scheduler.admit(8)
    assert scheduler.prefilling[0][1] is p
    assert scheduler.remove(p) == []
    assert names(scheduler.rows) == ["a"]
    assert not scheduler.prefilling


def test_those_that_wait_too_long_or_past_their_own_time_are_taken_out() -> None:
    scheduler = Scheduler(max_waiting=8, max_wait_seconds=10)
    running, short, long = sequence("running"), sequence("short", timeout_seconds=2), sequence("long")
    scheduler.add(running)
    scheduler.admit(1)
    scheduler.add(short)
    scheduler.add(long)
    assert names(scheduler.take_overdue(now=3)) == ["short"]
    assert names(scheduler.take_overdue(now=9)) == []
    assert names(scheduler.take_overdue(now=11)) == ["long"]
    assert scheduler.num_waiting == 0


def test_removing_a_waiting_sequence_twice_changes_nothing() -> None:
    scheduler = Scheduler(max_waiting=8, max_wait_seconds=10)
    a, b = sequence("a"), sequence("b")
    scheduler.add(a)
    scheduler.add(b)
    assert scheduler.remove(a) == scheduler.remove(a) == []
    assert names(scheduler.admit(1)) == ["b"]


def test_what_goes_on_with_an_answer_is_neither_refused_nor_overdue() -> None:
    scheduler = Scheduler(max_waiting=0, max_wait_seconds=10)
    scheduler.add(sequence("running"))
    scheduler.admit(1)
    assert not scheduler.has_room_for(sequence("new"), 1)
    next_turn = sequence("next turn", priority=-1, timeout_seconds=60)
    assert scheduler.has_room_for(next_turn, 1)
    scheduler.add(next_turn)
    assert scheduler.take_overdue(now=50) == []
    assert names(scheduler.take_overdue(now=61)) == ["next turn"]


def test_a_sequence_that_pauses_stands_between_those_that_decode_and_those_that_prefill() -> None:
    a, b, c, p, q = (sequence(name) for name in "abcpq")
    scheduler = decoding(a, b, c)
    for s in (p, q):
        scheduler.add(s)
    scheduler.admit(8)
    assert scheduler.pause(a) == Swap(0, 2)
    assert scheduler.pause(b) is None
    assert (names(scheduler.decoding), names(scheduler.paused)) == (["c"], ["b", "a"])
    assert scheduler.prefilling == [(3, p), (4, q)]
    assert scheduler.start_decoding() == Swap(3, 1)
    assert names(scheduler.rows) == ["c", "p", "a", "b", "q"]
    assert scheduler.prefilling == [(4, q)]
    assert scheduler.resume(b) == Swap(3, 2)
    assert names(scheduler.rows) == ["c", "p", "b", "a", "q"]
    assert (names(scheduler.decoding), names(scheduler.paused)) == (["c", "p", "b"], ["a"])


def test_leaving_closes_the_gap_through_every_group() -> None:
    a, b, c, d, p = (sequence(name) for name in "abcdp")
    scheduler = decoding(a, b, c, d)
    scheduler.add(p)
    scheduler.admit(8)
    scheduler.pause(d)
    scheduler.pause(c)
    assert names(scheduler.rows) == ["a", "b", "c", "d", "p"]
    assert scheduler.remove(a) == [Move(1, 0), Move(3, 1), Move(4, 3)]
    assert names(scheduler.rows) == ["b", "d", "c", "p"]
    assert (names(scheduler.decoding), names(scheduler.paused)) == (["b"], ["d", "c"])
    assert scheduler.remove(d) == [Move(2, 1), Move(3, 2)]
    assert (names(scheduler.rows), scheduler.num_paused) == (["b", "c", "p"], 1)


def test_only_so_many_rows_are_given_as_there_is_capacity_for() -> None:
    scheduler = Scheduler(max_waiting=1, max_wait_seconds=10)
    for name in "abc":
        assert scheduler.has_room_for(sequence(name), 2)
        scheduler.add(sequence(name))
    assert not scheduler.has_room_for(sequence("d"), 2)
    assert names(scheduler.admit(2)) == ["a", "b"]


def test_background_makes_way_for_as_many_as_wait_the_last_to_arrive_first() -> None:
    jobs = [sequence(name, priority=1) for name in "abc"]
    scheduler = decoding(*jobs)
    assert scheduler.next_to_yield(3) is None
    scheduler.add(sequence("job", priority=1))
    assert scheduler.next_to_yield(3) is None
    scheduler.add(sequence("urgent"))
    assert scheduler.next_to_yield(3) is jobs[2]
    scheduler.remove(jobs[2])
    scheduler.put_back(jobs[2])
    assert scheduler.next_to_yield(3) is None, "one row is enough for one"
    assert names(scheduler.admit(3)) == ["urgent"]
    scheduler.remove(scheduler.rows[0])
    assert names(scheduler.admit(3)) == ["c"], "it came before the job that never ran"


def set_aside(scheduler: Scheduler, aside: Sequence, now: float) -> None:
    """As the engine does."""
    scheduler.remove(aside)
    aside.set_aside(now)
    scheduler.put_back(aside)


def test_the_time_that_a_sequence_is_set_aside_does_not_count_against_it() -> None:
    job = sequence("job", 1, timeout_seconds=30)
    scheduler = decoding(job)
    job.accept("here", 0)
    set_aside(scheduler, job, now=10)
    assert scheduler.take_overdue(10_000) == []
    scheduler.admit(1)
    job.accept("here", 10_010)
    assert job.expires_at == 10_030


def test_background_that_was_set_aside_for_long_comes_next_and_stays() -> None:
    job = sequence("job", 1)
    scheduler = decoding(job)
    job.accept("here", 0)
    set_aside(scheduler, job, now=0)
    scheduler.add(sequence("urgent", arrived_at=100))
    scheduler.age(AGED_SECONDS - 1)
    assert names(scheduler.admit(1)) == ["urgent"]
    scheduler.add(sequence("another", arrived_at=101))
    scheduler.age(AGED_SECONDS)
    scheduler.remove(scheduler.rows[0])
    assert names(scheduler.admit(1)) == ["job"]
    assert scheduler.next_to_yield(1) is None


def test_a_key_that_sends_one_request_is_next_after_a_flood_of_another() -> None:
    scheduler = Scheduler(max_waiting=20, max_wait_seconds=10)
    for number in range(6):
        scheduler.add(sequence(f"many {number}", owner="many"))
    assert names(scheduler.admit(2)) == ["many 0", "many 1"]
    scheduler.add(sequence("one", owner="one"))
    assert names(scheduler.admit(3)) == ["one"]


def test_a_key_leaves_a_row_to_others_that_came_lately_and_takes_all_where_none_did() -> None:
    scheduler = Scheduler(max_waiting=20, max_wait_seconds=10)
    for number in range(6):
        scheduler.add(sequence(f"many {number}", owner="many"))
    assert len(scheduler.admit(3)) == 3
    one = sequence("one", owner="one")
    scheduler.add(one)
    scheduler.remove(one)
    assert scheduler.admit(4) == []
    # Else the next parts of a flood of long answers take every row, and no other key is next.
    scheduler.add(sequence("goes on", priority=-1, owner="many"))
    assert scheduler.admit(4) == []
    scheduler.add(sequence("another", owner="one"))
    assert names(scheduler.admit(4)) == ["another"]
    scheduler.remove(scheduler.rows[0])
    assert names(scheduler.admit(4)) == ["goes on"]


def test_background_work_does_not_make_way_for_a_key_that_has_its_share() -> None:
    scheduler = Scheduler(max_waiting=20, max_wait_seconds=10)
    scheduler.add(sequence("other", owner="one"))
    scheduler.add(sequence("a", owner="many"))
    scheduler.admit(2)
    scheduler.remove(scheduler.rows[0])
    scheduler.add(sequence("job", priority=1, owner="many"))
    scheduler.admit(2)
    scheduler.add(sequence("b", owner="many"))
    assert scheduler.next_to_yield(2) is None
    scheduler.add(sequence("c", owner="one"))
    assert scheduler.next_to_yield(2) is not None


def test_of_a_queue_that_one_key_has_filled_its_last_makes_room_for_another_key() -> None:
    scheduler = Scheduler(max_waiting=3, max_wait_seconds=10)
    for number in range(4):
        scheduler.add(sequence(f"many {number}", owner="many"))
    scheduler.admit(1)
    one, another = sequence("one", owner="one"), sequence("another", owner="many")
    assert not scheduler.has_room_for(one, 1)
    assert scheduler.makes_room_for(another) is None
    victim = scheduler.makes_room_for(one)
    assert victim is not None and victim.request.request_id == "many 3"
    assert scheduler.makes_room_for(sequence("job", priority=1, owner="one")) is None
