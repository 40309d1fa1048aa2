"""The step, to be read aloud: drop what is late, admit, prefill a little, decode one frame for all."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.engine.parts import PendingFrames, PrefillPart, Runner
from serve_app.engine.scheduler import Scheduler
from serve_app.engine.sequence import Sequence
from serve_app.errors import GenerationFailed, Overloaded
from serve_app.messages import Accepted, FinishReason
from serve_app.settings import EngineSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine holds right now."""

    running: int
    waiting: int
    slots: int
    prompt_positions: int = 0
    restored_positions: int = 0
    """Of the prompts since the start, and how many of their positions came from the prefix cache."""


class Engine:
    """Owned by one thread: every method is called on it."""

    def __init__(
        self, runner: Runner, settings: EngineSettings, replica: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._replica = replica
        self._clock = clock
        self._scheduler = Scheduler(settings.max_batch_size, settings.max_waiting, settings.max_wait_seconds)
        self._in_flight: deque[tuple[list[Sequence], PendingFrames]] = deque()
        self._prompt_positions = 0
        self._restored_positions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; raises Overloaded where there is no room to wait."""
        self._scheduler.add(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Free the slot of a sequence that nobody listens to any more; it may have ended before."""
        if sequence.finish is None:
            self._leave(sequence)
            sequence.finish = FinishReason.CANCELLED

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._scheduler.rows),
            waiting=self._scheduler.num_waiting,
            slots=self._settings.max_batch_size,
            prompt_positions=self._prompt_positions,
            restored_positions=self._restored_positions,
        )

    def step(self) -> bool:
        """One frame for every running sequence; False when there is nothing to do."""
        self._drop_late()
        self._admit()
        self._prefill()
        self._decode()
        return bool(self._scheduler.rows or self._scheduler.num_waiting or self._in_flight)

    def fail_all(self) -> None:
        """The model broke: end every stream as an error."""
        for sequence in self._scheduler.all_sequences:
            sequence.finish = FinishReason.ERROR
            sequence.emit(GenerationFailed("the model failed while speaking; try again"))

    def _drop_late(self) -> None:
        now = self._clock()
        for sequence in self._scheduler.take_overdue(now):
            sequence.finish = FinishReason.CANCELLED
            sequence.emit(Overloaded(f"no slot came free in {now - sequence.arrived_at:.0f} seconds", 2))
        for sequence in [s for s in self._scheduler.rows if now > s.expires_at]:
            self._finish(sequence, FinishReason.CANCELLED)

    def _admit(self) -> None:
        for sequence in self._scheduler.admit():
            sequence.emit(
                Accepted(
                    request_id=sequence.request.request_id,
                    seed=sequence.request.sampling.seed,
                    replica=self._replica,
                    queue_seconds=self._clock() - sequence.arrived_at,
                    prompt_tokens=sequence.prompt.num_positions,
                    dropped_segments=sequence.prompt.dropped_segments,
                )
            )
            if sequence.num_frames >= sequence.prompt.max_frames:  # resumed with nothing left to say
                self._finish(sequence, FinishReason.LENGTH)

    def _prefill(self) -> None:
        """At most `prefill_chunk_tokens` in all, so that running streams get their next frame in time."""
        budget = self._settings.prefill_chunk_tokens
        while budget > 0 and (parts := self._next_parts(budget)):
            self._runner.prefill(parts)
            budget -= sum(max(1, part.num_tokens) for part in parts)
            for sequence in (part.sequence for part in parts if part.sequence.is_prefilled):
                self._scheduler.start_decoding()
                self._prompt_positions += sequence.prompt.num_positions
                self._restored_positions += sequence.num_restored

    def _next_parts(self, budget: int) -> list[PrefillPart]:
        """What one pass reads: prompts in order, as many as the budget holds.

        One that has a context in common with another of this pass waits for it to be read, and then restores it.
        """
        parts: list[PrefillPart] = []
        being_read: set[bytes] = set()
        for row, sequence in self._scheduler.prefilling:
            if budget <= 0:
                break
            self._runner.restore(row, sequence)
            if being_read.intersection(sequence.unread_pieces):
                break
            num_tokens = min(budget, sequence.num_to_prefill - sequence.num_prefilled)
            parts.append(PrefillPart(row, sequence, num_tokens))
            being_read.update(sequence.unread_pieces)
            budget -= max(1, num_tokens)
        return parts

    def _decode(self) -> None:
        """Launch a frame for all, then take the one that is due: a device computes while the host hands out."""
        sequences = self._scheduler.decoding
        if sequences:
            self._in_flight.append((sequences, self._runner.launch(sequences)))
            for sequence in sequences:
                sequence.num_launched += 1
        while len(self._in_flight) > (self._runner.lookahead if sequences else 0):
            self._hand_out(*self._in_flight.popleft())

    def _hand_out(self, sequences: list[Sequence], pending: PendingFrames) -> None:
        for sequence, frame in zip(sequences, pending.codes(), strict=True):
            if sequence.finish is not None:  # it ended after this frame was launched
                continue
            if reason := sequence.append(frame, self._settings.repeated_frames_limit):
                self._finish(sequence, reason)
            else:
                sequence.send_due(self._settings.chunk_frames)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.send_last(reason)
        if sequence.request.becomes_context and reason in (FinishReason.EOS, FinishReason.LENGTH):
            self._runner.keep_spoken(self._scheduler.rows.index(sequence), sequence)
        self._leave(sequence)
        _log.info("request %s: %s after %d frames", sequence.request.request_id, reason, sequence.num_frames)

    def _leave(self, sequence: Sequence) -> None:
        for move in self._scheduler.remove(sequence):
            self._runner.move(move, self._scheduler.rows[move.target].num_positions)
