"""Whose turn is next, by what each has had; and how many places one leaves to the others."""

import pytest

from serve_app.errors import Overloaded
from serve_app.shares import LATELY_SECONDS, Line, Shares


def served(line: Line[str], cost: dict[str, float]) -> list[str]:
    order = []
    while found := line.next():
        owner, item = found
        line.shares.charge(owner, cost[owner])
        order.append(item)
    return order


def test_what_one_sends_in_a_flood_stands_behind_itself() -> None:
    line: Line[str] = Line("things wait", 100, 50)
    for number in range(4):
        line.join("many", f"many {number}")
    line.join("one", "one")
    assert served(line, {"many": 1, "one": 1}) == ["many 0", "one", "many 1", "many 2", "many 3"]


def test_shares_are_equal_in_what_is_used_and_not_in_number() -> None:
    line: Line[str] = Line("things wait", 100, 50)
    for number in range(6):
        line.join("long", f"long {number}")
        line.join("short", f"short {number}")
    order = served(line, {"long": 3, "short": 1})
    assert [item.split()[0] for item in order[:8]].count("short") == 6


def test_an_owner_gains_nothing_by_staying_away() -> None:
    shares = Shares()
    for _ in range(5):
        shares.charge("a", 10)
    assert (shares.place("late"), shares.place("a")) == (40, 50)
    shares.charge("late", 10)
    assert (shares.place("late"), shares.place("a")) == (50, 50)


def test_an_owner_leaves_an_eighth_to_others_that_came_lately() -> None:
    now = 1000.0
    shares = Shares(lambda: now)
    shares.came("one")
    assert (shares.most_places("one", 8), shares.most_places("one", 64)) == (8, 64)
    shares.came("two")
    assert (shares.most_places("one", 8), shares.most_places("one", 64), shares.most_places("one", 1)) == (7, 56, 1)
    assert shares.most_places("third", 8) == 7
    now += LATELY_SECONDS + 1
    shares.came("one")
    assert shares.most_places("one", 8) == 8
    assert shares.most_places("two", 8) == 7


def test_without_keys_only_the_bound_of_all_holds() -> None:
    line: Line[str] = Line("things wait", 3, 1)
    for number in range(3):
        line.join("", f"{number}")
    with pytest.raises(Overloaded, match="too many things wait: try again later"):
        line.join("", "one more")
    line.leave("", "1")
    line.join("", "now there is room")
    assert len(line) == 3


def test_a_key_is_refused_at_its_own_bound() -> None:
    line: Line[str] = Line("things wait", 3, 1)
    line.join("a", "first")
    with pytest.raises(Overloaded):
        line.join("a", "second")
    line.join("b", "first")


def test_owners_at_their_share_are_passed_over() -> None:
    line: Line[str] = Line("things wait", 9, 9)
    line.join("full", "x")
    line.join("free", "y")
    assert line.next(lambda owner: owner != "full") == ("free", "y")
    assert line.next(lambda owner: owner != "full") is None
    assert line.next() == ("full", "x")
