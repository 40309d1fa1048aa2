"""Progress lines for a job's log: the turn, frames and seconds."""

from collections.abc import Iterator

from serve_app.messages import FRAME_RATE_HZ, SAMPLE_RATE_HZ, AudioChunk
from serve_app.speech.answer import Answer, StoredAnswer

_FRAMES_BETWEEN_LINES = 50
"""Four seconds of speech."""
_BYTES_PER_SECOND = 2 * SAMPLE_RATE_HZ


class SpeechProgress:
    """Follows one answer. Its lines hold numbers and no text of the caller."""

    def __init__(self, answer: Answer) -> None:
        self._request = answer.request
        self._accepted = answer.accepted
        self._turn = 0
        self._frames = 0
        self._frames_told = 0

    def opening(self) -> str:
        clips, dropped = self._request.context, self._accepted.dropped_segments
        seconds = sum(len(clip.pcm) for clip in clips) / _BYTES_PER_SECOND
        context = f"context of {_count(len(clips), 'clip')}, {seconds:.1f} s" if clips else "no context"
        if dropped:
            context += f", {_count(dropped, 'passage')} left out: it is too long"
        return f"started: {_count(len(self._request.turns), 'turn')}, {context}; {self._where()}"

    def lines(self, chunk: AudioChunk) -> Iterator[str]:
        """Progress lines after `chunk`, often none."""
        if chunk.turn != self._turn:
            yield f"{self._where()} done: {_amount(self._frames)}"
            self._turn, self._frames, self._frames_told = chunk.turn, 0, 0
        self._frames += chunk.num_frames
        if self._frames - self._frames_told >= _FRAMES_BETWEEN_LINES:
            self._frames_told = self._frames
            yield f"{self._where()}: {_amount(self._frames)} so far"

    def closing(self, stored: StoredAnswer) -> Iterator[str]:
        yield f"{self._where()} done: {_amount(self._frames)}"
        yield (
            f"finished ({stored.finish_reason}): {stored.audio_seconds:.2f} s of audio "
            f"in {stored.inference_seconds:.2f} s, {stored.file.size} bytes"
        )

    def _where(self) -> str:
        return f"turn {self._turn + 1} of {len(self._request.turns)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _amount(frames: int) -> str:
    return f"{frames} frames, {frames / FRAME_RATE_HZ:.1f} s"
