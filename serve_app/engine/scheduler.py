"""Who runs: the waiting queue and the rows of the batch. No tensor is touched here."""

import heapq
import itertools
from dataclasses import dataclass

from serve_app.engine.sequence import Sequence
from serve_app.errors import Overloaded


@dataclass(frozen=True, slots=True)
class Move:
    """Row `source` now lives in row `target`; its memory must follow."""

    source: int
    target: int


class Scheduler:
    """Rows are kept dense: those that decode come first, then those that prefill, so that a step reads one prefix."""

    def __init__(self, max_rows: int, max_waiting: int, max_wait_seconds: float) -> None:
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._arrivals = itertools.count()
        self.rows: list[Sequence] = []
        self.num_decoding = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def decoding(self) -> list[Sequence]:
        return self.rows[: self.num_decoding]

    @property
    def all_sequences(self) -> list[Sequence]:
        return self.rows + [entry[2] for entry in self._waiting]

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; raises Overloaded where there is no room to wait."""
        free_rows = self._max_rows - len(self.rows)
        if sequence.request.priority >= 0 and len(self._waiting) >= self._max_waiting + free_rows:
            raise Overloaded(f"all {self._max_rows} slots are taken and {len(self._waiting)} requests wait already", 2)
        heapq.heappush(self._waiting, (sequence.request.priority, next(self._arrivals), sequence))

    def admit(self) -> list[Sequence]:
        """Give free rows to those that wait, first by priority, then by arrival."""
        admitted = []
        while self._waiting and len(self.rows) < self._max_rows:
            sequence = heapq.heappop(self._waiting)[2]
            self.rows.append(sequence)
            admitted.append(sequence)
        return admitted

    @property
    def prefilling(self) -> list[tuple[int, Sequence]]:
        """Rows and their sequences, in the order in which they are to be read."""
        return list(enumerate(self.rows))[self.num_decoding :]

    def start_decoding(self) -> None:
        """The first row that prefills is done with that."""
        self.num_decoding += 1

    def take_overdue(self, now: float) -> list[Sequence]:
        """Remove and return those that waited too long for a row, or whose own time is up."""
        overdue = [s for *_, s in self._waiting if now > self._waits_until(s)]
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
        if gap < self.num_decoding:
            self.num_decoding -= 1
            moves += self._fill(gap, self.num_decoding)
            gap = self.num_decoding
        moves += self._fill(gap, len(self.rows) - 1)
        self.rows.pop()
        return moves

    def _fill(self, gap: int, last: int) -> list[Move]:
        if gap == last:
            return []
        self.rows[gap] = self.rows[last]
        return [Move(last, gap)]

    def _waits_until(self, sequence: Sequence) -> float:
        if sequence.request.priority < 0:
            return sequence.expires_at
        return min(sequence.arrived_at + self._max_wait_seconds, sequence.expires_at)

    def _remove_waiting(self, sequence: Sequence) -> None:
        self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
        heapq.heapify(self._waiting)
