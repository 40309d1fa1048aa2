"""What stands around keys: a database that counts, a clock that is set by hand."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from serve_app.store.database import Database

T = TypeVar("T")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


class CountingDatabase(Database):
    num_reads = 0
    num_writes = 0

    async def read(self, work: Callable[[Connection], T]) -> T:
        self.num_reads += 1
        return await super().read(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        self.num_writes += 1
        return await super().write(work)
