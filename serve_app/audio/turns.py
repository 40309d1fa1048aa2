"""Who may have a clip decoded next: a bounded queue that is fair to its owners."""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serve_app.errors import Overloaded


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Bounds of a queue. An owner is a key; without keys all requests have the same."""

    at_once: int
    waiting: int
    waiting_of_owner: int
    wait_seconds: float


class Turns:
    """For threads. Owners take turns, so a key that sends many slow clips delays its own.

    An owner that has a name leaves one place free for the others.
    """

    def __init__(self, limits: TurnLimits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[object]] = OrderedDict()

    @contextmanager
    def turn(self, owner: str) -> Iterator[None]:
        """Waits for a place and keeps it. Raises Overloaded where too many wait, or for too long."""
        self._take(owner)
        try:
            yield
        finally:
            with self._changed:
                self._running[owner] -= 1
                self._changed.notify_all()

    def _take(self, owner: str) -> None:
        ticket = object()
        with self._changed:
            self._join(owner, ticket)
            try:
                deadline = time.monotonic() + self._limits.wait_seconds
                while not self._is_next(owner, ticket):
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise _overloaded()
                self._running[owner] += 1
                if owner in self._waiting:
                    self._waiting.move_to_end(owner)
            finally:
                self._leave(owner, ticket)
                self._changed.notify_all()

    def _join(self, owner: str, ticket: object) -> None:
        own = self._waiting.get(owner, ())
        everyones = sum(len(tickets) for tickets in self._waiting.values())
        if everyones >= self._limits.waiting or (owner and len(own) >= self._limits.waiting_of_owner):
            raise _overloaded()
        self._waiting.setdefault(owner, deque()).append(ticket)

    def _leave(self, owner: str, ticket: object) -> None:
        self._waiting[owner].remove(ticket)
        if not self._waiting[owner]:
            del self._waiting[owner]

    def _is_next(self, owner: str, ticket: object) -> bool:
        if self._running.total() >= self._limits.at_once:
            return False
        for other, tickets in self._waiting.items():
            if self._may_run(other):
                return other == owner and tickets[0] is ticket
        return False

    def _may_run(self, owner: str) -> bool:
        most = max(1, self._limits.at_once - 1) if owner else self._limits.at_once
        return self._running[owner] < most


def _overloaded() -> Overloaded:
    return Overloaded("too many clips wait to be decoded: try again later", retry_after_seconds=5)
