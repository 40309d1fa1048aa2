"""The engine's step: drop late sequences, keep the pace, admit, prefill a little, decode one frame for all rows."""

import logging
import time
from collections import deque
from collections.abc import Callable

from serve_app.engine.admission import Admission
from serve_app.engine.kept_waiting import KeptWaiting
from serve_app.engine.pacing import Pace
from serve_app.engine.prefill import PrefillChunk, PrefillPass
from serve_app.engine.runner import PendingFrames, Runner
from serve_app.engine.scheduler import Scheduler, Swap
from serve_app.engine.sending import Sending
from serve_app.engine.sequence import Sequence
from serve_app.engine.stats import EngineStats
from serve_app.engine.step_times import StepTimes
from serve_app.errors import GenerationFailed
from serve_app.messages import FinishReason
from serve_app.settings import EngineSettings

_log = logging.getLogger(__name__)

_MAX_REST_SECONDS = 0.1
"""An expired sequence is dropped at most this much too late."""
_YIELDS = 8
"""So many times as long as it was kept waiting for a processor, it leaves the processors to others."""


class Engine:
    """One thread owns it and calls every method."""

    def __init__(
        self,
        runner: Runner,
        settings: EngineSettings,
        replica: str,
        clock: Callable[[], float] = time.monotonic,
        kept_waiting: Callable[[], float] | None = None,
    ) -> None:
        """kept_waiting: for how long this thread waited for a processor since it was last called."""
        self._runner = runner
        self._settings = settings
        self._replica = replica
        self._clock = clock
        self._scheduler = Scheduler(settings.max_waiting, settings.max_wait_seconds, clock)
        self._step_times = StepTimes(settings.max_batch_size)
        self._pace = Pace(settings.max_lead_seconds, settings.chunk_reserve_ms / 1000)
        self._sending = Sending(settings, self._pace)
        self._admission = Admission(settings, self._step_times, self._pace)
        self._in_flight: deque[tuple[list[Sequence], PendingFrames]] = deque()
        self._prompt_positions = 0
        self._restored_positions = 0
        self._num_set_aside = 0
        self._kept_waiting = kept_waiting or KeptWaiting()

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises Overloaded where the queue is full.

        Of a queue that one key has filled, its last sequence is refused instead, so that another key has its place.
        """
        scheduler = self._scheduler
        if not scheduler.has_room_for(sequence, self._admission.capacity):
            reason = f"{len(scheduler.rows)} requests are being spoken and {scheduler.num_waiting} wait already"
            refusal = self._admission.refuse(reason, scheduler.rows, self._clock())
            if (other := scheduler.makes_room_for(sequence)) is None:
                raise refusal
            scheduler.remove(other)
            other.fail(FinishReason.CANCELLED, refusal)
        scheduler.add(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Free the slot of a sequence whose consumer has left. The sequence may have ended before."""
        if sequence.finish is None:
            self._leave(sequence)
            sequence.cancel()

    def stats(self) -> EngineStats:
        scheduler, now = self._scheduler, self._clock()
        return EngineStats(
            running=len(scheduler.rows),
            waiting=scheduler.num_waiting,
            slots=self._settings.max_batch_size,
            prompt_positions=self._prompt_positions,
            restored_positions=self._restored_positions,
            paused=scheduler.num_paused,
            capacity=self._admission.capacity,
            step_ms=self._step_times.estimate_ms(max(1, scheduler.num_decoding)),
            refused=self._admission.num_refused,
            oldest_wait_seconds=max(
                (now - s.arrived_at for s in scheduler.waiting if not s.is_accepted and not s.is_background),
                default=0.0,
            ),
            set_aside=self._num_set_aside,
        )

    def reconfigure(self, settings: EngineSettings) -> None:
        """Change the limits for new and waiting sequences. Slots and memory stay as they are."""
        self._settings = settings
        self._scheduler.max_waiting = settings.max_waiting
        self._scheduler.max_wait_seconds = settings.max_wait_seconds
        self._admission.max_step_ms = settings.max_step_ms
        self._pace.max_lead_seconds = settings.max_lead_seconds
        self._pace.reserve_seconds = settings.chunk_reserve_ms / 1000
        self._sending.reconfigure(settings)

    def step(self) -> bool:
        """Compute one frame for every running sequence. False when no work is left."""
        self._drop_late()
        self._keep_pace()
        if self._scheduler.num_waiting:
            capacity = self._admission.capacity
            self._make_way(capacity)
            self._admit(capacity)
        self._prefill()
        self._decode()
        return bool(self._scheduler.rows or self._scheduler.num_waiting or self._in_flight)

    def rest_seconds(self) -> float:
        """How long the next step may wait: while every sequence is paused.

        Where nobody listens, `_YIELDS` times as long as this thread was kept waiting for a processor: others want it.
        """
        paused = self._scheduler.paused
        if self._scheduler.may_yield and (kept_waiting := self._kept_waiting()):
            return min(_YIELDS * kept_waiting, _MAX_REST_SECONDS)
        if self._in_flight or not paused or len(paused) < len(self._scheduler.rows):
            return 0.0
        until_resume = min(self._pace.resumes_at(sequence) for sequence in paused) - self._clock()
        return min(max(0.0, until_resume), _MAX_REST_SECONDS)

    def fail_all(self) -> None:
        """End every stream with an error, because the model failed."""
        for sequence in self._scheduler.all_sequences:
            sequence.fail(FinishReason.ERROR, GenerationFailed("the model failed while speaking; try again"))

    def _drop_late(self) -> None:
        now = self._clock()
        for sequence in self._scheduler.take_overdue(now):
            if sequence.is_accepted:
                sequence.send_last(FinishReason.CANCELLED)
                continue
            reason = f"no slot came free in {now - sequence.arrived_at:.0f} seconds"
            sequence.fail(FinishReason.CANCELLED, self._admission.refuse(reason, self._scheduler.rows, now))
        for sequence in [s for s in self._scheduler.rows if now > s.expires_at]:
            self._finish(sequence, FinishReason.CANCELLED)

    def _keep_pace(self) -> None:
        """Pause streams that are far ahead of their listeners, and resume those that are not any more."""
        now = self._clock()
        for sequence in self._scheduler.paused:
            if now >= self._pace.resumes_at(sequence):
                self._swap(self._scheduler.resume(sequence))
        for sequence in self._scheduler.decoding:
            if self._pace.should_pause(sequence, now):
                self._swap(self._scheduler.pause(sequence))

    def _make_way(self, capacity: int) -> None:
        """Set aside background sequences whose rows interactive ones wait for."""
        self._scheduler.age(self._clock())
        while (sequence := self._scheduler.next_to_yield(capacity)) is not None:
            if self._in_flight:  # The sequence's next frame may be among them, and may be its last.
                self._take_oldest()
            else:
                self._set_aside(sequence)

    def _set_aside(self, sequence: Sequence) -> None:
        """Queue a running sequence again. It continues from its frames, which the prefix cache may hold by then."""
        self._runner.keep_spoken(self._scheduler.rows.index(sequence), sequence)
        self._leave(sequence)
        sequence.set_aside(self._clock())
        self._scheduler.put_back(sequence)
        self._num_set_aside += 1

    def _admit(self, capacity: int) -> None:
        for sequence in self._scheduler.admit(capacity):
            sequence.accept(self._replica, self._clock())
            if sequence.num_frames >= sequence.prompt.max_frames:  # It was resumed with every frame spoken.
                self._finish(sequence, FinishReason.LENGTH)

    def _prefill(self) -> None:
        """Read at most `prefill_chunk_tokens` positions, so that running streams get their next frame in time."""
        tokens_left = self._settings.prefill_chunk_tokens
        while tokens_left > 0 and (prefill := self._next_pass(tokens_left)).chunks:
            self._runner.prefill(prefill.chunks)
            tokens_left = prefill.tokens_left
            for chunk in prefill.chunks:
                self._note_prefilled(chunk)

    def _next_pass(self, max_tokens: int) -> PrefillPass:
        """Restore prompts from the prefix cache, in order, and plan to read what it does not hold."""
        prefill = PrefillPass(max_tokens)
        for row, sequence in self._scheduler.prefilling:
            if prefill.is_full:
                break
            sequence.note_restored(self._runner.restore(row, sequence))
            if not prefill.add(row, sequence):
                break
        return prefill

    def _note_prefilled(self, chunk: PrefillChunk) -> None:
        sequence = chunk.sequence
        sequence.note_prefilled(chunk.end)
        if chunk.is_last:
            self._swap(self._scheduler.start_decoding())
            self._prompt_positions += sequence.prompt.num_positions
            self._restored_positions += sequence.num_restored

    def _decode(self) -> None:
        """Launch a frame for all rows, then take the oldest one: a device computes while the host hands out frames."""
        sequences = self._scheduler.decoding
        if sequences:
            self._in_flight.append((sequences, self._runner.launch(sequences)))
            for sequence in sequences:
                sequence.num_launched += 1
        while len(self._in_flight) > (self._runner.lookahead if sequences else 0):
            self._take_oldest()
        if not sequences:
            self._step_times.note_rest()

    def _take_oldest(self) -> None:
        """Hand out the frames of the decode step that was launched first."""
        sequences, pending = self._in_flight.popleft()
        codes, now = pending.codes(), self._clock()
        go_on: list[Sequence] = []
        for sequence, frame in zip(sequences, codes, strict=True):
            if sequence.finish is not None:  # It ended after this frame was launched.
                continue
            if reason := sequence.append(frame, self._settings.repeated_frames_limit, now):
                self._finish(sequence, reason)
            else:
                go_on.append(sequence)
        self._sending.send(go_on, self._step_times.estimate_ms(len(sequences)) / 1000, now)
        self._step_times.note_end(len(sequences), self._clock())

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        sequence.send_last(reason)
        if sequence.request.becomes_context and reason in (FinishReason.EOS, FinishReason.LENGTH):
            self._runner.keep_spoken(self._scheduler.rows.index(sequence), sequence)
        self._leave(sequence)
        request_id = sequence.request.request_id
        _log.info(
            "request %s: %s after %d frames", request_id, reason, sequence.num_frames, extra={"request_id": request_id}
        )

    def _swap(self, swap: Swap | None) -> None:
        if swap is not None:
            rows = self._scheduler.rows
            self._runner.swap(swap, max(rows[row].num_positions for row in (swap.first, swap.second)))

    def _leave(self, sequence: Sequence) -> None:
        for move in self._scheduler.remove(sequence):
            self._runner.move(move, self._scheduler.rows[move.target].num_positions)
