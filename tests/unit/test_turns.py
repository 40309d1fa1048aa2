"""Who is decoded next."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_app.errors import Overloaded
from serve_app.turns import TurnLimits, Turns


class Crowd:
    """Threads that take a turn and keep it until they are let go, in the order in which they got theirs."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.served: list[str] = []
        self._go = threading.Semaphore(0)
        self._pool = ThreadPoolExecutor(32)

    def send(self, owner: str) -> None:
        before = self.in_line
        self._pool.submit(self._take, owner)
        wait_until(lambda: self.in_line == before + 1)

    @property
    def in_line(self) -> int:
        return len(self.served) + len(self.turns._line)

    def _take(self, owner: str) -> None:
        with self.turns.turn(owner):
            self.served.append(owner)
            self._go.acquire()

    def let_go(self, num: int = 1) -> None:
        for _ in range(num):
            self._go.release()

    def finish(self) -> None:
        self.let_go(1000)
        self._pool.shutdown()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def limits(at_once: int, waiting: int = 100, waiting_of_owner: int = 50, wait_seconds: float = 60) -> TurnLimits:
    return TurnLimits("clips wait", at_once, waiting, waiting_of_owner, wait_seconds)


def test_another_key_is_served_next_however_many_clips_one_sends() -> None:
    crowd = Crowd(Turns(limits(1)))
    for _ in range(6):
        crowd.send("many")
    crowd.send("one")
    for num in range(2, 8):
        crowd.let_go()
        wait_until(lambda num=num: len(crowd.served) == num)
    crowd.finish()
    assert crowd.served.index("one") <= 2
    assert crowd.served.count("many") == 6


def test_a_key_leaves_a_place_free_for_the_others_that_came_lately() -> None:
    crowd = Crowd(Turns(limits(3)))
    with crowd.turns.turn("one"):
        pass
    for _ in range(5):
        crowd.send("many")
    assert crowd.served == ["many"] * 2
    crowd.send("one")
    wait_until(lambda: crowd.served == ["many", "many", "one"])
    crowd.finish()


@pytest.mark.parametrize("owner", ["", "the only key"])
def test_where_only_one_comes_it_has_all_places(owner: str) -> None:
    crowd = Crowd(Turns(limits(3)))
    for _ in range(5):
        crowd.send(owner)
    wait_until(lambda: crowd.served == [owner] * 3)
    crowd.finish()


def test_more_than_may_wait_are_refused_and_the_room_comes_back() -> None:
    crowd = Crowd(Turns(limits(2, waiting=4, waiting_of_owner=2)))
    for _ in range(4):
        crowd.send("many")
    with pytest.raises(Overloaded, match="try again later"), crowd.turns.turn("many"):
        pass
    for owner in ("other", "other"):
        crowd.send(owner)
    with pytest.raises(Overloaded), crowd.turns.turn("third"):
        pass
    crowd.finish()
    with crowd.turns.turn("many"):
        assert crowd.in_line == 6


def test_a_clip_that_waits_too_long_is_refused_and_leaves_the_line() -> None:
    crowd = Crowd(Turns(limits(1, wait_seconds=0.05)))
    crowd.send("a")
    with pytest.raises(Overloaded), crowd.turns.turn("b"):
        pass
    assert crowd.in_line == 1
    crowd.finish()
