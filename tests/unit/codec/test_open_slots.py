"""Which slot a stream gets: the fullest bank is filled first, so that the others run empty."""

import random

import pytest

from serve_app.codec.open_slots import OpenSlots, bank_sizes


@pytest.mark.parametrize(
    ("num_slots", "sizes"), [(1, [1]), (32, [32]), (64, [64]), (65, [64, 64]), (128, [64, 64]), (400, [64] * 7)]
)
def test_banks_are_equal_and_one_that_is_enough_is_no_larger_than_its_slots(num_slots: int, sizes: list[int]) -> None:
    """Only here are slots counted that no one bank holds at its usual size."""
    assert bank_sizes(num_slots) == sizes


def test_every_slot_is_given_once_and_none_beyond_those_of_the_last_bank() -> None:
    """No other test has a last bank with rows to spare: their memory is there, and nobody may be let in for it."""
    slots = OpenSlots(10, 4)
    assert sorted(slot for slot in (slots.open() for _ in range(10)) if slot is not None) == list(range(10))
    assert slots.open() is None
    slots.close(5)
    assert (slots.num_free, slots.open()) == (1, 5)


def test_the_bank_that_streams_leave_is_not_filled_again_while_a_fuller_one_has_room() -> None:
    """No other test looks at where a stream goes after others have left."""
    slots = OpenSlots(12, 4)
    for _ in range(12):
        slots.open()
    for leaving in (4, 5, 6, 8, 9, 0):  # bank 0 keeps three streams, bank 1 one, bank 2 two
        slots.close(leaving)
    banks = [slot // 4 for slot in (slots.open() for _ in range(6)) if slot is not None]
    assert banks == [0, 2, 2, 1, 1, 1]


def test_streams_that_come_and_go_leave_fewer_banks_in_use_than_slots_taken_by_chance() -> None:
    """Only here is the gain counted: at most 100 of 400 streams at a time, which two banks hold."""
    chance = random.Random(1)
    slots, by_chance = OpenSlots(400, 64), set[int]()
    in_use = {"fullest first": list[int](), "by chance": list[int]()}
    for _ in range(4000):
        if len(slots.slots) < 100 and chance.random() < 0.6:
            slots.open()
            by_chance.add(chance.choice(sorted(set(range(400)) - by_chance)))
        elif slots.slots:
            slots.close(chance.choice(sorted(slots.slots)))
            by_chance.remove(chance.choice(sorted(by_chance)))
        in_use["fullest first"].append(len({slot // 64 for slot in slots.slots}))
        in_use["by chance"].append(len({slot // 64 for slot in by_chance}))
    assert sum(in_use["fullest first"]) / 4000 < 2.2
    assert sum(in_use["by chance"]) / 4000 > 6
