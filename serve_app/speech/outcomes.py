"""How recent requests ended, for clients of streams, whose headers were sent before the end."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from serve_app.errors import UnknownRequest
from serve_app.messages import FRAME_RATE_HZ, FinishReason
from serve_app.records.record import Record

_KEPT_SECONDS = 600.0
_MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """`finish_reason` is None while the request runs."""

    request_id: str
    seed: int
    num_frames: int = 0
    finish_reason: FinishReason | None = None
    spoken_chars: int = 0
    """Typed characters of all turns, up to the last piece that was spoken whole."""
    turn_starts: tuple[int, ...] = ()
    """The frame at which each turn begins, for those that have begun."""

    @property
    def audio_seconds(self) -> float:
        return self.num_frames / FRAME_RATE_HZ

    @property
    def turn_start_seconds(self) -> list[float]:
        return [frame / FRAME_RATE_HZ for frame in self.turn_starts]

    def heard(self, num_frames: int, turn: int, spoken_chars: int) -> Self:
        """The outcome after `num_frames` more, of this turn. A turn without sound begins where the next one does."""
        starts = self.turn_starts
        if num_frames:
            starts += (self.num_frames,) * (turn + 1 - len(starts))
        return replace(self, num_frames=self.num_frames + num_frames, spoken_chars=spoken_chars, turn_starts=starts)


def outcome_of(record: Record) -> Outcome:
    """That of an answer that another replica gave."""
    lengths = [len(turn["text"]) for turn in record.scene["turns"]]
    last = record.parts[-1] if record.parts else None
    is_whole = record.finish_reason == FinishReason.EOS
    spoken = 0 if last is None else sum(lengths[: last.turn]) + (last.end if is_whole else last.start)
    finish = FinishReason(record.finish_reason or FinishReason.CANCELLED)
    starts = {part.turn: part.first_frame for part in reversed(record.parts)}
    turn_starts = tuple(starts[turn] for turn in sorted(starts))
    return Outcome(record.request_id, record.seed, record.num_frames, finish, spoken, turn_starts)


class RecentOutcomes:
    """Remembers each request for ten minutes after its last change. Of two with the same id, the later change counts.

    `owner` is the id of the caller's key. If two callers chose the same request id, each sees its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], tuple[float, Outcome]] = OrderedDict()

    def record(self, owner: str, outcome: Outcome) -> None:
        self._entries[owner, outcome.request_id] = (self._clock(), outcome)
        self._entries.move_to_end((owner, outcome.request_id))
        self._forget_old()

    def get(self, owner: str, request_id: str) -> Outcome:
        """The outcome. Raises UnknownRequest if the id is unknown, forgotten, or another owner's."""
        self._forget_old()
        if (owner, request_id) not in self._entries:
            raise UnknownRequest(request_id)
        return self._entries[owner, request_id][1]

    def _forget_old(self) -> None:
        oldest_kept = self._clock() - _KEPT_SECONDS
        while self._entries:
            oldest, (written_at, _) = next(iter(self._entries.items()))
            if written_at >= oldest_kept and len(self._entries) <= _MAX_KEPT:
                return
            del self._entries[oldest]
