"""How far a stream may run ahead of its listener."""

from serve_app.engine.sequence import Sequence
from serve_app.messages import FRAME_RATE_HZ

_CATCH_UP_SECONDS = 1.0
"""A stream that paused goes on once its listener has caught up so far: less would swap rows at every step."""


class Pace:
    """Streams that are `paced` pause at `max_lead_seconds`, with 0 none does; and get their frames at once while their
    listener has less than `reserve_seconds` left."""

    def __init__(self, max_lead_seconds: float, reserve_seconds: float = 0.0) -> None:
        self.max_lead_seconds = max_lead_seconds
        self.reserve_seconds = reserve_seconds

    def should_pause(self, sequence: Sequence, now: float) -> bool:
        """Only at a message's end: what is computed and not sent is no use to the listener."""
        return self._holds(sequence) and not sequence.num_unsent and self._lead(sequence, now) >= self.max_lead_seconds

    def cannot_wait(self, sequence: Sequence, step_seconds: float, now: float) -> bool:
        """Whether its listener, who holds only what was sent, may have played all of it before the next frame is there:
        then a message must not wait to grow."""
        if not sequence.request.paced or not self.reserve_seconds:
            return False
        in_hand = self._lead(sequence, now) - sequence.num_unsent / FRAME_RATE_HZ
        return in_hand < step_seconds + self.reserve_seconds

    def wakes_at(self, sequence: Sequence) -> float:
        catch_up = min(_CATCH_UP_SECONDS, self.max_lead_seconds / 2)
        return sequence.played_out_at - self.max_lead_seconds + catch_up

    def longest_left(self, sequence: Sequence, step_seconds: float, now: float) -> float:
        """Seconds after which it has ended, if it becomes as long as it may."""
        frames_left = sequence.prompt.max_frames - sequence.num_frames
        computed_in = frames_left * step_seconds
        if not self._holds(sequence):
            return computed_in
        return max(computed_in, self._lead(sequence, now) + frames_left / FRAME_RATE_HZ - self.max_lead_seconds)

    def _holds(self, sequence: Sequence) -> bool:
        return sequence.request.paced and self.max_lead_seconds > 0

    def _lead(self, sequence: Sequence, now: float) -> float:
        return sequence.played_out_at - now
