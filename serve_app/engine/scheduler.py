"""Scheduling: the waiting queue and the rows of the batch. It touches no tensor."""

import heapq
import itertools
from dataclasses import dataclass

from serve_app.engine.sequence import Sequence

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

    def __init__(self, max_waiting: int, max_wait_seconds: float) -> None:
        self.max_waiting = max_waiting
        self.max_wait_seconds = max_wait_seconds
        self._waiting: list[tuple[tuple[int, float, int], Sequence]] = []
        self._arrivals = itertools.count()
        self.rows: list[Sequence] = []
        self.num_decoding = 0
        self.num_paused = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def decoding(self) -> list[Sequence]:
        return self.rows[: self.num_decoding]

    @property
    def paused(self) -> list[Sequence]:
        return self.rows[self.num_decoding : self.num_decoding + self.num_paused]

    @property
    def waiting(self) -> list[Sequence]:
        """In no particular order."""
        return [entry[1] for entry in self._waiting]

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

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        sequence.arrival = next(self._arrivals)
        self.put_back(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Queue a sequence that gave up its row. It keeps its place in the order of arrival."""
        heapq.heappush(self._waiting, (sequence.place_in_line, sequence))

    def age(self, now: float) -> None:
        """Count background sequences that were set aside for long as interactive, so that each is heard in the end."""
        aged = [s for s in self.waiting if s.is_background and s.seconds_aside(now) >= AGED_SECONDS]
        for sequence in aged:
            self._remove_waiting(sequence)
            sequence.has_aged = True
            self.put_back(sequence)

    def next_to_yield(self, capacity: int) -> Sequence | None:
        """The background sequence, last to arrive, whose row an interactive one needs. None if none is needed."""
        num_urgent = sum(not sequence.is_background for sequence in self.waiting)
        if not num_urgent or num_urgent <= capacity - len(self.rows):
            return None
        background = [sequence for sequence in self.rows if sequence.is_background]
        return max(background, key=lambda sequence: sequence.place_in_line[1:], default=None)

    def admit(self, capacity: int) -> list[Sequence]:
        """Give free rows to waiting sequences, by priority and then by arrival. Returns the admitted ones."""
        admitted = []
        while self._waiting and len(self.rows) < capacity:
            sequence = heapq.heappop(self._waiting)[1]
            self.rows.append(sequence)
            admitted.append(sequence)
        return admitted

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
            self._remove_waiting(sequence)
        return overdue

    def remove(self, sequence: Sequence) -> list[Move]:
        """Take out a running or waiting sequence. Returns the moves that close the gap its row leaves."""
        if sequence not in self.rows:
            self._remove_waiting(sequence)
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

    def _remove_waiting(self, sequence: Sequence) -> None:
        self._waiting = [entry for entry in self._waiting if entry[1] is not sequence]
        heapq.heapify(self._waiting)
