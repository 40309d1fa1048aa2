"""Which sequences send the frames that they have. A message costs the same CPU whatever it holds."""

from collections.abc import Iterable

from serve_app.engine.pacing import Pace
from serve_app.engine.sequence import Sequence
from serve_app.settings import EngineSettings

_WHOLE_SECONDS = 1.0
"""Of computing, for a message of an answer that nobody hears before its end."""


class Sending:
    """Messages grow with what listeners have in hand, and those of a batch do not all go after the same step.

    Where nobody listens they are large from the start.
    """

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
            size = self._size(sequence, now) if sequence.request.paced else self._size_unheard(sequence, step_seconds)
            self._allowance += 1 / size
            share = sequence.num_unsent / size
            frames_to_pause = self._pace.seconds_to_pause(sequence, now) * sequence.frames_heard_per_second
            if frames_to_pause <= 0 or self._pace.must_send(sequence, step_seconds, now):
                self._send(sequence)
            elif frames_to_pause < size / 2 and share < 2:
                continue  # Its last message before it pauses would be a small one.
            elif share >= 1:
                self._send(sequence)
            elif size >= self._chunk_frames and share >= 0.5 and frames_to_pause >= 2 * size:
                # Not one that pauses soon: it sends all that it has then, in a single message.
                early.append((share, sequence))
        for _, sequence in sorted(early, key=lambda entry: -entry[0])[: max(0, int(self._allowance))]:
            self._send(sequence)
        self._allowance = min(max(0.0, self._allowance), 1.0)

    def _send(self, sequence: Sequence) -> None:
        sequence.send()
        self._allowance -= 1

    def _size(self, sequence: Sequence, now: float) -> int:
        """Of the sequence's next message, in frames: at most as much as its listener has in hand, or `chunk_frames`."""
        in_hand = int(self._pace.sent_seconds(sequence, now) * sequence.frames_heard_per_second)
        return sequence.size_of_next_message(in_hand, min(max(self._chunk_frames, in_hand), self._most_frames))

    def _size_unheard(self, sequence: Sequence, step_seconds: float) -> int:
        """Of the next message of an answer that nobody hears before its end: at most a quarter of what there is, since
        the last one's sound is made when all else is done, and is lost with its replica."""
        return max(self._most_frames, min(sequence.num_frames // 4, int(_WHOLE_SECONDS / max(step_seconds, 1e-6))))
