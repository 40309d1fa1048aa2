"""Pacing: how far a stream may run ahead of its listener."""

import math

from serve_app.engine.sequence import Sequence

_CATCH_UP_SECONDS = 1.0
"""A paused stream resumes once its listener has caught up by this much. A smaller value would swap rows every step."""


class Pace:
    """Pauses paced streams that are `max_lead_seconds` ahead; 0 pauses none. All its seconds are the listener's.

    Sends a paced stream's frames at once while its listener has less than `reserve_seconds` of audio left.
    """

    def __init__(self, max_lead_seconds: float, reserve_seconds: float = 0.0) -> None:
        self.max_lead_seconds = max_lead_seconds
        self.reserve_seconds = reserve_seconds

    def should_pause(self, sequence: Sequence, now: float) -> bool:
        """True only at the end of a message: frames that are computed but not sent do not help the listener."""
        return self.seconds_to_pause(sequence, now) <= 0 and not sequence.num_unsent

    def seconds_to_pause(self, sequence: Sequence, now: float) -> float:
        """How much further ahead it may run; infinite where nothing paces it."""
        if not self._is_paced(sequence):
            return math.inf
        return self.max_lead_seconds - self._lead_seconds(sequence, now)

    def must_send(self, sequence: Sequence, step_seconds: float, now: float) -> bool:
        """Whether the listener may run out of sent audio before the next frame is computed."""
        if not sequence.request.paced or not self.reserve_seconds:
            return False
        return self.sent_seconds(sequence, now) < step_seconds + self.reserve_seconds

    def sent_seconds(self, sequence: Sequence, now: float) -> float:
        """Audio that its listener has in hand: what was sent, less what a listener has played by now."""
        return self._lead_seconds(sequence, now) - sequence.num_unsent / sequence.frames_heard_per_second

    def resumes_at(self, sequence: Sequence) -> float:
        """When a paused sequence decodes again, on the engine's clock."""
        catch_up = min(_CATCH_UP_SECONDS, self.max_lead_seconds / 2)
        return sequence.played_out_at - self.max_lead_seconds + catch_up

    def max_seconds_left(self, sequence: Sequence, step_seconds: float, now: float) -> float:
        """Seconds until a sequence has ended, if it grows to its maximum length."""
        frames_left = sequence.prompt.max_frames - sequence.num_frames
        computed_in = frames_left * step_seconds
        if not self._is_paced(sequence):
            return computed_in
        played_in = self._lead_seconds(sequence, now) + frames_left / sequence.frames_heard_per_second
        return max(computed_in, played_in - self.max_lead_seconds)

    def _is_paced(self, sequence: Sequence) -> bool:
        return sequence.request.paced and self.max_lead_seconds > 0

    def _lead_seconds(self, sequence: Sequence, now: float) -> float:
        """Audio that the listener has still to play."""
        return sequence.played_out_at - now
