"""Requests go in by key, also those that are refused later. `make test-abuse` measures what that is worth on the whole
graph."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve_app.api import door
from serve_app.api.door import Door

LONG = 3600.0


class House:
    """The app behind a door. A request ends when it is let."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.door = Door(self.answer, most_waiting=1000)
        self._go = asyncio.Semaphore(0)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came.append(scope["path"])
        await self._go.acquire()

    def ask(self, who: str, header: bytes = b"authorization") -> asyncio.Task[None]:
        scope = {"type": "http", "path": who, "headers": [(b"host", b"csm"), (header, who.encode())]}
        return asyncio.create_task(self.door(scope, nothing, into_nothing))

    def let_go(self, number: int = 1) -> None:
        for _ in range(number):
            self._go.release()


async def nothing() -> Message:
    raise AssertionError("nobody reads here")


async def into_nothing(message: Message) -> None:
    return


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_AT_ONCE", 2)
    monkeypatch.setattr(door, "_HELD_SECONDS", LONG)


@pytest.mark.parametrize("header", [b"authorization", b"xi-api-key"])
async def test_one_request_does_not_wait_for_another_keys_flood(header: bytes) -> None:
    house = House()
    flood = [house.ask("many", header) for _ in range(40)]
    await until(lambda: house.came == ["many"] * 2)
    one = house.ask("one", header)
    await asyncio.sleep(0)
    house.let_go()
    await until(lambda: len(house.came) == 3)
    assert house.came[2] == "one"
    house.let_go(40)
    await asyncio.gather(*flood, one)


async def test_what_waits_for_something_else_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams and requests that wait for a slot would shut the door for as long as they last."""
    monkeypatch.setattr(door, "_HELD_SECONDS", 0.01)
    house = House()
    asked = [house.ask("many") for _ in range(10)]
    await until(lambda: len(house.came) == 10)
    house.let_go(10)
    await asyncio.gather(*asked)


async def test_a_request_that_is_cancelled_gives_its_place_back() -> None:
    house = House()
    asked = [house.ask("many") for _ in range(4)]
    await until(lambda: len(house.came) == 2)
    for request in asked:
        request.cancel()
    await asyncio.wait(asked)
    after = [house.ask("many") for _ in range(2)]
    await until(lambda: len(house.came) == 4)
    house.let_go(2)
    await asyncio.gather(*after)
