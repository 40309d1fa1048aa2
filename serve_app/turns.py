"""Turns at something of which there are few: a bounded line that is fair to its owners."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from serve_app.shares import Line

T = TypeVar("T")
_OWNER: ContextVar[str] = ContextVar("owner", default="")


@contextmanager
def working_for(owner: str) -> Iterator[None]:
    """What the block does, and the tasks that it starts, is done for this key. `""` is the server itself."""
    token = _OWNER.set(owner)
    try:
        yield
    finally:
        _OWNER.reset(token)


def current_owner() -> str:
    """The key for which the running code works."""
    return _OWNER.get()


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Bounds of a line. `what` waits, as errors say it."""

    what: str
    at_once: int
    waiting: int
    waiting_of_owner: int
    wait_seconds: float


@dataclass(slots=True, eq=False)
class Ticket:
    owner: str
    call: Callable[[], object]
    """Called once its turn has come, from any thread."""
    began_at: float | None = None


class Turns:
    """For threads and coroutines. An owner is charged for the time that it keeps its places."""

    def __init__(self, limits: TurnLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._line: Line[Ticket] = Line(limits.what, limits.waiting, limits.waiting_of_owner)

    @contextmanager
    def turn(self, owner: str) -> Iterator[None]:
        """Waits for a place and keeps it. Raises Overloaded where too many wait, or for too long."""
        called = threading.Event()
        ticket = self.join(owner, called.set)
        try:
            if not called.wait(self._limits.wait_seconds):
                raise self._line.overloaded()
            yield
        finally:
            self.leave(ticket)

    @asynccontextmanager
    async def awaited(self, owner: str) -> AsyncGenerator[Ticket, None]:
        """`turn`, for coroutines."""
        ticket = await self.taken(owner)
        try:
            yield ticket
        finally:
            self.leave(ticket)

    async def taken(self, owner: str) -> Ticket:
        """A place that is kept until `leave`."""
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        ticket = self.join(owner, lambda: loop.call_soon_threadsafe(called.set))
        if ticket.began_at is not None:
            return ticket
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await called.wait()
        except asyncio.CancelledError:
            self.leave(ticket)
            raise
        except TimeoutError:
            self.leave(ticket)
            raise self._line.overloaded() from None
        return ticket

    def join(self, owner: str, call: Callable[[], object]) -> Ticket:
        """Whoever joins leaves, whether or not it was called. Raises Overloaded where too many wait."""
        ticket = Ticket(owner, call)
        with self._lock:
            self._line.join(owner, ticket)
            self._call_next()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket.began_at is None:
                self._line.leave(ticket.owner, ticket)
            else:
                self._running[ticket.owner] -= 1
                self._line.shares.charge(ticket.owner, time.monotonic() - ticket.began_at)
            self._call_next()

    def _call_next(self) -> None:
        while self._running.total() < self._limits.at_once and (found := self._line.next(self._may_run)):
            owner, ticket = found
            self._running[owner] += 1
            ticket.began_at = time.monotonic()
            ticket.call()

    def _may_run(self, owner: str) -> bool:
        return self._running[owner] < self._line.shares.most_places(owner, self._limits.at_once)


class FairThreads:
    """Threads for calls that block. Where all are busy, owners take turns."""

    def __init__(self, name: str, limits: TurnLimits) -> None:
        """As many threads as `limits.at_once`."""
        self._turns = Turns(limits)
        self._threads = ThreadPoolExecutor(limits.at_once, name)

    async def run(self, owner: str, work: Callable[[], T]) -> T:
        """What `work` returns. Once begun it is done, even if the caller is cancelled. Raises Overloaded."""
        ticket = await self._turns.taken(owner)
        try:
            running = self._threads.submit(work)
        except RuntimeError:  # it was closed
            self._turns.leave(ticket)
            raise
        running.add_done_callback(lambda _: self._turns.leave(ticket))
        return await asyncio.wrap_future(running)

    def close(self) -> None:
        self._threads.shutdown()
