"""Scheduling: the waiting queue and the rows of the batch. It touches no tensor."""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.engine.sequence import Sequence
from serve_app.messages import FRAME_RATE_HZ
from serve_app.shares import Shares

AGED_SECONDS = 120.0
"""How long a background sequence may be set aside in all."""


@dataclass(frozen=True, slots=True)
class Move:
    """The sequence of row `source` moves to row `target`. Its memory must follow."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Swap:
    """The sequences of two rows change places. Their memory must follow."""

    first: int
    second: int


class Scheduler:
    """Keeps rows dense, so that a step reads a prefix of them: decoding rows first, then paused, then prefilling ones.

    `capacity`, where a method takes it, is how many rows may be in use now: all of them, or fewer if a step with all
    of them would take too long.
    """

    def __init__(self, max_waiting: int, max_wait_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_waiting = max_waiting
        self.max_wait_seconds = max_wait_seconds
        self.waiting: list[Sequence] = []
        """In no particular order."""
        self._shares = Shares(clock)
        """Of interactive sequences, by the seconds of audio that they may make. Jobs have theirs in the queue."""
        self._arrivals = itertools.count()
        self.rows: list[Sequence] = []
        self.num_decoding = 0
        self.num_paused = 0

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    @property
    def decoding(self) -> list[Sequence]:
        return self.rows[: self.num_decoding]

    @property
    def paused(self) -> list[Sequence]:
        return self.rows[self.num_decoding : self.num_decoding + self.num_paused]

    @property
    def all_sequences(self) -> list[Sequence]:
        return self.rows + self.waiting

    def has_room_for(self, sequence: Sequence, capacity: int) -> bool:
        """Whether a sequence may queue: `capacity` may run and `max_waiting` more may wait at its priority or before.

        A continued answer, or a request that waited on another replica before, always may.
        """
        if sequence.is_continuation or sequence.request.waited_seconds > 0:
            return True
        priority = sequence.request.priority
        num_before = sum(other.request.priority <= priority for other in self.all_sequences)
        return num_before < capacity + self.max_waiting

    def makes_room_for(self, sequence: Sequence) -> Sequence | None:
        """The last waiting one of the owner with most sequences, if that has more than the new one's would have."""
        if sequence.is_background:
            return None
        num_of = Counter(other.request.owner for other in self.all_sequences if not other.is_background)
        refusable = [other for other in self.waiting if not (other.is_continuation or other.is_background)]
        victim = max(refusable, key=lambda other: (num_of[other.request.owner], other.place_of_arrival), default=None)
        if victim is None or num_of[victim.request.owner] <= num_of[sequence.request.owner] + 1:
            return None
        return victim

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        sequence.arrival = next(self._arrivals)
        if not sequence.is_background:
            self._shares.came(sequence.request.owner)
        self.put_back(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Queue a sequence that gave up its row. It keeps its place in the order of arrival."""
        self.waiting.append(sequence)

    def age(self, now: float) -> None:
        """Count background sequences that were set aside for long as interactive, so that each is heard in the end."""
        for sequence in self.waiting:
            sequence.has_aged |= sequence.is_background and sequence.seconds_aside(now) >= AGED_SECONDS

    def next_to_yield(self, capacity: int) -> Sequence | None:
        """The background sequence, last to arrive, whose row an interactive one needs. None if none is needed."""
        num_urgent = self._num_urgent(capacity)
        if not num_urgent or num_urgent <= capacity - len(self.rows):
            return None
        background = [sequence for sequence in self.rows if sequence.is_background]
        return max(background, key=lambda sequence: sequence.place_of_arrival, default=None)

    def admit(self, capacity: int) -> list[Sequence]:
        """Give free rows to waiting sequences: by priority, by what their keys have used, by arrival. Returns them.

        A key leaves rows free while others have come lately.
        """
        admitted = []
        while len(self.rows) < capacity and (sequence := self._next(capacity)) is not None:
            self.waiting.remove(sequence)
            self.rows.append(sequence)
            admitted.append(sequence)
            if not sequence.is_background:
                self._shares.charge(sequence.request.owner, sequence.prompt.max_frames / FRAME_RATE_HZ)
        return admitted

    def _num_urgent(self, capacity: int) -> int:
        """Interactive sequences that wait and may have a row at once."""
        room, num_urgent = self._room_of_keys(capacity), 0
        for sequence in self.waiting:
            if sequence.is_background:
                continue
            if room[sequence.request.owner] > 0:
                num_urgent += 1
                room[sequence.request.owner] -= 1
        return num_urgent

    def _room_of_keys(self, capacity: int) -> dict[str, int]:
        """How many rows each key whose sequences wait may have beside those that it has."""
        num_rows = Counter(other.request.owner for other in self.rows if not other.is_background)
        owners = {sequence.request.owner for sequence in self.waiting}
        return {owner: self._shares.most_places(owner, capacity) - num_rows[owner] for owner in owners}

    def _next(self, capacity: int) -> Sequence | None:
        room = self._room_of_keys(capacity)

        def may_go(sequence: Sequence) -> bool:
            return sequence.is_background or room[sequence.request.owner] > 0

        def place(sequence: Sequence) -> tuple[int, float, tuple[float, int]]:
            used = 0.0 if sequence.is_background else self._shares.place(sequence.request.owner)
            return sequence.priority, used, sequence.place_of_arrival

        return min(filter(may_go, self.waiting), key=place, default=None)

    @property
    def may_yield(self) -> bool:
        """Whether nobody listens to what is made, and another key came lately, which may want the processors."""
        if any(sequence.request.paced for sequence in self.rows):
            return False
        return any(self._shares.others_came(owner) for owner in {sequence.request.owner for sequence in self.rows})

    @property
    def prefilling(self) -> list[tuple[int, Sequence]]:
        """Rows and their sequences, in the order in which prompts are read."""
        return list(enumerate(self.rows))[self.num_decoding + self.num_paused :]

    def start_decoding(self) -> Swap | None:
        """Move the first prefilling row to the decoding ones."""
        swap = self._swap(self.num_decoding + self.num_paused, self.num_decoding)
        self.num_decoding += 1
        return swap

    def pause(self, sequence: Sequence) -> Swap | None:
        """Move a decoding row to the paused ones."""
        self.num_decoding -= 1
        self.num_paused += 1
        return self._swap(self.rows.index(sequence), self.num_decoding)

    def resume(self, sequence: Sequence) -> Swap | None:
        """Move a paused row to the decoding ones."""
        swap = self._swap(self.rows.index(sequence), self.num_decoding)
        self.num_decoding += 1
        self.num_paused -= 1
        return swap

    def take_overdue(self, now: float) -> list[Sequence]:
        """Remove and return the sequences that waited too long for a row, or whose own time is up."""
        overdue = [s for s in self.waiting if now > self._waits_until(s)]
        for sequence in overdue:
            self.waiting.remove(sequence)
        return overdue

    def remove(self, sequence: Sequence) -> list[Move]:
        """Take out a running or waiting sequence. Returns the moves that close the gap its row leaves."""
        if sequence not in self.rows:
            self.waiting = [other for other in self.waiting if other is not sequence]
            return []
        moves = []
        gap = self.rows.index(sequence)
        was_decoding, was_paused = sequence in self.decoding, sequence in self.paused
        # The last row of a group fills the gap. Its own row is then the first of the next group, and the new gap.
        for end in (self.num_decoding, self.num_decoding + self.num_paused, len(self.rows)):
            if gap < end:
                moves += self._fill(gap, end - 1)
                gap = end - 1
        self.rows.pop()
        self.num_decoding -= was_decoding
        self.num_paused -= was_paused
        return moves

    def _swap(self, first: int, second: int) -> Swap | None:
        self.rows[first], self.rows[second] = self.rows[second], self.rows[first]
        return Swap(first, second) if first != second else None

    def _fill(self, gap: int, last: int) -> list[Move]:
        if gap == last:
            return []
        self.rows[gap] = self.rows[last]
        return [Move(last, gap)]

    def _waits_until(self, sequence: Sequence) -> float:
        if sequence.is_continuation:
            return sequence.expires_at
        return min(sequence.arrived_at + self.max_wait_seconds, sequence.expires_at)
