"""Bounds open status streams, sockets and downloads. Each counts in the ingress replica that serves it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.errors import LimitReached, Overloaded
from serve_app.keys.key import ANONYMOUS

_RETRY_SECONDS = 5


class Places:
    """Places for one kind of connection, or for waiting bytes: a bound for all owners, and one for each.

    The owner is a key's id. Without keys all callers are one owner, and only the bound for all holds.
    """

    def __init__(self, what: str, most: int, most_of_owner: int) -> None:
        self._what = what
        self._most = most
        self._most_of_owner = most_of_owner
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, owner: str, number: int = 1) -> Iterator[None]:
        """Keep places while the block runs. Raises LimitReached, or Overloaded where all keys are at a limit."""
        self.take(owner, number)
        try:
            yield
        finally:
            self.give_back(owner, number)

    def take(self, owner: str, number: int = 1) -> None:
        """As `taken`, until `give_back`."""
        if owner != ANONYMOUS.id and self._taken[owner] + number > self._most_of_owner:
            raise LimitReached(
                f"this key may have {self._most_of_owner} {self._what} open at once: close some first", _RETRY_SECONDS
            )
        if self._taken.total() + number > self._most:
            raise Overloaded(f"too many {self._what} are open here: try again later", _RETRY_SECONDS)
        self._taken[owner] += number

    def give_back(self, owner: str, number: int = 1) -> None:
        self._taken[owner] -= number
        if self._taken[owner] <= 0:
            del self._taken[owner]
