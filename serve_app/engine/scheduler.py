"""Who runs: the waiting queue and the rows of the batch. No tensor is touched here."""

import heapq
import itertools
from dataclasses import dataclass

from serve_app.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Move:
    """Row `source` now lives in row `target`; its memory must follow."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Two rows exchange their places; their memory must follow."""

    first: int
    second: int


class Scheduler:
    """Rows are kept dense, so that a step reads one prefix: those that decode come first, then those that pause, then
    those that prefill."""

    def __init__(self, max_rows: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._max_rows = max_rows
        self.max_waiting = max_waiting
        self.max_wait_seconds = max_wait_seconds
        self._waiting: list[tuple[tuple[int, float, int], Sequence]] = []
        self._arrivals = itertools.count()
        self.rows: list[Sequence] = []
        self.num_decoding = 0
        self.num_paused = 0
        self.capacity = max_rows
        """How many rows may be taken now: all, or fewer where a step would last too long."""

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
        """In no order."""
        return [entry[1] for entry in self._waiting]

    @property
    def all_sequences(self) -> list[Sequence]:
        return self.rows + self.waiting

    def has_room_for(self, sequence: Sequence) -> bool:
        """Whether it may wait: behind as many as can run, and `max_waiting` more. Those behind it do not count.

        Who waits already may go on doing so: it may be here still, on its way from one line to another.
        """
        priority = sequence.request.priority
        num_before = sum(other.request.priority <= priority for other in self.all_sequences)
        is_let_in = sequence.goes_on or sequence.request.waited_seconds > 0
        return is_let_in or num_before < self.capacity + self.max_waiting

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        sequence.arrival = next(self._arrivals)
        self.put_back(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Queue one that gave up its row, where it was in the order of arrival."""
        heapq.heappush(self._waiting, (sequence.place_in_line, sequence))

    def next_to_yield(self) -> Sequence | None:
        """The background sequence whose row goes to one that is not and waits: the last to arrive."""
        num_urgent = sum(not sequence.is_background for sequence in self.waiting)
        if not num_urgent or num_urgent <= self.capacity - len(self.rows):
            return None
        background = [sequence for sequence in self.rows if sequence.is_background]
        return max(background, key=lambda sequence: sequence.place_in_line[1:], default=None)

    def admit(self) -> list[Sequence]:
        """Give free rows to those that wait, first by priority, then by arrival."""
        admitted = []
        while self._waiting and len(self.rows) < self.capacity:
            sequence = heapq.heappop(self._waiting)[1]
            self.rows.append(sequence)
            admitted.append(sequence)
        return admitted

    @property
    def prefilling(self) -> list[tuple[int, Sequence]]:
        """Rows and their sequences, in the order in which they are to be read."""
        return list(enumerate(self.rows))[self.num_decoding + self.num_paused :]

    def start_decoding(self) -> Swap | None:
        """The first row that prefills is done with that."""
        swap = self._swap(self.num_decoding + self.num_paused, self.num_decoding)
        self.num_decoding += 1
        return swap

    def pause(self, sequence: Sequence) -> Swap | None:
        """A row that decodes is left out of the steps."""
        self.num_decoding -= 1
        self.num_paused += 1
        return self._swap(self.rows.index(sequence), self.num_decoding)

    def wake(self, sequence: Sequence) -> Swap | None:
        """A row that was left out decodes again."""
        swap = self._swap(self.rows.index(sequence), self.num_decoding)
        self.num_decoding += 1
        self.num_paused -= 1
        return swap

    def take_overdue(self, now: float) -> list[Sequence]:
        """Remove and return those that waited too long for a row, or whose own time is up."""
        overdue = [s for s in self.waiting if now > self._waits_until(s)]
        for sequence in overdue:
            self._remove_waiting(sequence)
        return overdue

    def remove(self, sequence: Sequence) -> list[Move]:
        """Take a sequence out, wherever it is, and close the gap its row leaves."""
        if sequence not in self.rows:
            self._remove_waiting(sequence)
            return []
        moves = []
        gap = self.rows.index(sequence)
        was_decoding, was_paused = sequence in self.decoding, sequence in self.paused
        # The last of a group fills the gap, which so becomes the next group's.
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
        if sequence.goes_on:
            return sequence.expires_at
        return min(sequence.arrived_at + self.max_wait_seconds, sequence.expires_at)

    def _remove_waiting(self, sequence: Sequence) -> None:
        self._waiting = [entry for entry in self._waiting if entry[1] is not sequence]
        heapq.heapify(self._waiting)
