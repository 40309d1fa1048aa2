"""Which sequences send the frames that they have. A message costs the same CPU whatever it holds."""

from collections.abc import Iterable

from serve_app.engine.pacing import Pace
from serve_app.engine.sequence import Sequence
from serve_app.messages import FRAME_RATE_HZ
from serve_app.settings import EngineSettings


class Sending:
    """Messages grow with what listeners have in hand, and those of a batch do not all go after the same step."""

    def __init__(self, settings: EngineSettings, pace: Pace) -> None:
        self._pace = pace
        self._allowance = 0.0
        self.reconfigure(settings)

    def reconfigure(self, settings: EngineSettings) -> None:
        self._chunk_frames = settings.chunk_frames
        self._most_frames = max(settings.chunk_frames, settings.chunk_frames_ahead)

    def send(self, sequences: Iterable[Sequence], step_seconds: float, now: float) -> None:
        """Send what is due after a step. The next one takes about `step_seconds`.

        Sequences that began together would reach the size of their messages together, and their chunks would pass all
        hops as a convoy. So a message may go at half of its size if it is its turn: on average, a step has as many
        turns as full messages come up in one.
        """
        early: list[tuple[float, Sequence]] = []
        for sequence in sequences:
            size = self._size(sequence, now)
            self._allowance += 1 / size
            share = sequence.num_unsent / size
            seconds_to_pause = self._pace.seconds_to_pause(sequence, now)
            if seconds_to_pause <= 0 or self._pace.must_send(sequence, step_seconds, now):
                self._send(sequence)
            elif seconds_to_pause * FRAME_RATE_HZ < size / 2 and share < 1.5:
                continue  # Its last message before it pauses would be a small one.
            elif share >= 1:
                self._send(sequence)
            elif size >= self._chunk_frames and share >= 0.5:
                early.append((share, sequence))
        for _, sequence in sorted(early, key=lambda entry: -entry[0])[: max(0, int(self._allowance))]:
            self._send(sequence)
        self._allowance = min(max(0.0, self._allowance), 1.0)

    def _send(self, sequence: Sequence) -> None:
        sequence.send()
        self._allowance -= 1

    def _size(self, sequence: Sequence, now: float) -> int:
        """Of the sequence's next message, in frames: at most as much as its listener has in hand, or `chunk_frames`."""
        in_hand = int(self._pace.sent_seconds(sequence, now) * FRAME_RATE_HZ)
        return sequence.size_of_next_message(in_hand, min(max(self._chunk_frames, in_hand), self._most_frames))
