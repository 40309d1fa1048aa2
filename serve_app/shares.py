"""Fair shares: whose turn is next where keys want the same thing.

Start-time fair queueing. An owner's place in line is the service that it has had, or how far the line is if that is
more. So what one owner sends in a flood stands behind itself, and an owner that sends one piece of work is next.
"""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from serve_app.errors import Overloaded

T = TypeVar("T")
LATELY_SECONDS = 600.0
"""For so long after an owner came, the others leave places free for it."""
_FORGET_ABOVE = 1000
_RETRY_SECONDS = 5


def place_in_line(used: float, reached: float) -> float:
    """Where an owner's next piece of work stands. `jobs/shares.py` keeps the same two numbers in the database."""
    return max(used, reached)


class Shares:
    """What each owner has used. An owner is a key; without keys all callers are one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: dict[str, float] = {}
        self._reached = 0.0
        self._last: tuple[str, float] = ("", -math.inf)
        """The owner that came last, and when. The next is the last of the others."""
        self._last_other: tuple[str, float] = ("", -math.inf)

    def came(self, owner: str) -> None:
        """Note that an owner wants something."""
        if owner != self._last[0]:
            self._last_other = self._last
        self._last = (owner, self._clock())

    def place(self, owner: str) -> float:
        return place_in_line(self._used.get(owner, 0.0), self._reached)

    def charge(self, owner: str, cost: float) -> None:
        """Count what an owner gets now. The unit is the caller's: seconds of audio, or of work."""
        self._reached = self.place(owner)
        self._used[owner] = self._reached + cost
        if len(self._used) > _FORGET_ABOVE:
            self._used = {each: used for each, used in self._used.items() if used > self._reached}

    def most_places(self, owner: str, places: int) -> int:
        """Of so many, those that one owner may hold: seven in eight, where others have come lately."""
        left_free = max(1, places // 8) if self.others_came(owner) else 0
        return max(1, places - left_free)

    def others_came(self, owner: str) -> bool:
        """Whether another owner wanted something in the last ten minutes."""
        _, came_at = self._last if owner != self._last[0] else self._last_other
        return self._clock() - came_at < LATELY_SECONDS


class Line(Generic[T]):
    """What waits: an owner's in the order in which it came, owners by their shares. Not for several threads at once."""

    def __init__(self, what: str, most: int, most_of_owner: int, shares: Shares | None = None) -> None:
        """most_of_owner: holds for owners with a name, since without keys all callers are one."""
        self.shares = shares or Shares()
        self._what = what
        self._most = most
        self._most_of_owner = most_of_owner
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def join(self, owner: str, item: T) -> None:
        """Raises Overloaded where too many wait."""
        own = self._waiting.get(owner, ())
        if len(self) >= self._most or (owner and len(own) >= self._most_of_owner):
            raise self.overloaded()
        self.shares.came(owner)
        self._waiting.setdefault(owner, deque()).append(item)

    def leave(self, owner: str, item: T) -> None:
        """Take out what does not wait any more. It may have been taken already."""
        if item in self._waiting.get(owner, ()):
            self._waiting[owner].remove(item)
            self._drop_empty(owner)

    def next(self, may_go: Callable[[str], bool] = lambda owner: True) -> tuple[str, T] | None:
        """Take out whose turn it is, of the owners that may go. None where there is none. Charge its owner."""
        owner = min(filter(may_go, self._waiting), key=self.shares.place, default=None)
        if owner is None:
            return None
        item = self._waiting[owner].popleft()
        self._waiting.move_to_end(owner)
        self._drop_empty(owner)
        return owner, item

    def overloaded(self) -> Overloaded:
        return Overloaded(f"too many {self._what}: try again later", _RETRY_SECONDS)

    def _drop_empty(self, owner: str) -> None:
        if not self._waiting[owner]:
            del self._waiting[owner]
