"""Threads that all keys use serve them in turn: one statement, piece or text does not wait for another key's hundred.
That their lines are bounded, and how they are charged, is tested where the turns are (`tests/unit/test_turns.py`)."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from serve_app.settings import FileSettings
from serve_app.store import object_store
from serve_app.store.database import Database
from serve_app.store.object_store import Objects
from serve_app.turns import working_for

NUM_THREADS, FLOOD = 8, 40


class Gate:
    """Work that ends when it is let, and says for whom it was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._go = threading.Semaphore(0)

    def pass_through(self, owner: str) -> None:
        self.begun.append(owner)
        self._go.acquire()

    async def let_go(self) -> None:
        """One, and wait until the next has taken its place."""
        before = len(self.begun)
        self._go.release()
        await until(lambda: len(self.begun) > before)

    def open(self) -> None:
        self._go.release(1000)


async def until(is_so: Any) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.002)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


async def served_next(gate: Gate, work: Any) -> None:
    """One key sends forty, and then another sends one."""
    flood = [asyncio.create_task(work("many")) for _ in range(FLOOD)]
    await until(lambda: len(gate.begun) == NUM_THREADS)
    one = asyncio.create_task(work("one"))
    await asyncio.sleep(0.01)
    await gate.let_go()
    assert gate.begun[NUM_THREADS:] == ["one"]
    gate.open()
    await asyncio.gather(*flood, one)


async def test_a_statement_does_not_wait_for_those_of_another_key(tmp_path: Path, gate: Gate) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")

    async def work(owner: str) -> None:
        def statement(_: Connection) -> None:
            gate.pass_through(owner)

        with working_for(owner):
            await database.read(statement)

    await served_next(gate, work)
    database.close()


@pytest.mark.parametrize("way", ["written", "read"])
async def test_a_piece_of_a_file_does_not_wait_for_those_of_another_key(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def call(store: object, key: str, *_: object, **__: object) -> bytes:
        gate.pass_through(key)
        return b""

    monkeypatch.setattr(object_store.obstore, "put" if way == "written" else "get_range", call)
    monkeypatch.setattr(object_store, "_sync", lambda _: None)
    objects = Objects.open(FileSettings(), tmp_path)

    async def work(owner: str) -> None:
        if way == "written":
            await objects.put(owner, b"", owner)
        else:
            assert [chunk async for chunk in objects.read(owner, 0, 1, owner)] == [b""]

    await served_next(gate, work)
    objects.close()


async def test_a_caller_that_leaves_gives_its_place_back(tmp_path: Path, gate: Gate) -> None:
    """A request that is cancelled must not make the line shorter for ever, whether its statement waits or runs."""
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    work = [asyncio.create_task(database.read(lambda _: gate.pass_through("left"))) for _ in range(2 * NUM_THREADS)]
    await until(lambda: len(gate.begun) == NUM_THREADS)
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    gate.open()
    await asyncio.gather(*(database.read(lambda _: gate.pass_through("stays")) for _ in range(2 * NUM_THREADS)))
    assert gate.begun.count("left") == NUM_THREADS
    database.close()
