"""Which turns of a conversation the model still hears. The voices always stay, the oldest exchanges go first."""

from collections.abc import Sequence
from dataclasses import dataclass

_KEPT_SHARE = 0.5
"""Of the room, once turns must go. Dropping one exchange at each turn would change the beginning of every prompt, and
the prefix cache could restore none of them."""


@dataclass(frozen=True, slots=True)
class TurnSize:
    frames: int
    is_heard: bool
    """Whether it came as a recording. A heard turn after a spoken one begins an exchange."""


def first_kept(turns: Sequence[TurnSize], first: int, room_frames: float) -> int:
    """The oldest turn to keep, given that those before `first` are gone already.

    All of them fit into `room_frames`, or else whole exchanges are dropped until half of it is free.
    """
    if _frames(turns, first) <= room_frames:
        return first
    while first < len(turns) and _frames(turns, first) > room_frames * _KEPT_SHARE:
        first = _next_exchange(turns, first)
    return first


def _next_exchange(turns: Sequence[TurnSize], first: int) -> int:
    following = range(first + 1, len(turns))
    if not any(turn.is_heard for turn in turns):
        return first + 1
    return next((n for n in following if turns[n].is_heard and not turns[n - 1].is_heard), len(turns))


def _frames(turns: Sequence[TurnSize], first: int) -> int:
    return sum(turn.frames for turn in turns[first:])
