"""What a person who waits for a scene would want to read: which turn of how many, frames, seconds."""

from collections.abc import Iterator

from serve_app.messages import FRAME_RATE_HZ, SAMPLE_RATE_HZ, Accepted, AudioChunk
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene_work import SceneAnswer

_FRAMES_BETWEEN_NEWS = 50
"""Four seconds of speech."""
_BYTES_PER_SECOND = 2 * SAMPLE_RATE_HZ


class SceneProgress:
    """Follows the messages of one scene. Its lines hold numbers, and nothing that anybody said."""

    def __init__(self, request: SpeechRequest) -> None:
        self._request = request
        self._turn = 0
        self._frames = 0
        self._frames_told = 0

    def lines(self, message: Accepted | AudioChunk | SceneAnswer) -> Iterator[str]:
        """What there is to tell after `message`, often nothing."""
        if isinstance(message, Accepted):
            yield self._opening(message)
        elif isinstance(message, SceneAnswer):
            yield f"{self._where()} done: {_amount(self._frames)}"
            yield (
                f"finished ({message.finish_reason}): {message.audio_seconds:.2f} s of audio "
                f"in {message.inference_seconds:.2f} s, {message.file.size} bytes"
            )
        else:
            yield from self._heard(message)

    def _opening(self, accepted: Accepted) -> str:
        clips = self._request.context
        seconds = sum(len(clip.pcm) for clip in clips) / _BYTES_PER_SECOND
        context = f"context of {_count(len(clips), 'clip')}, {seconds:.1f} s" if clips else "no context"
        if accepted.dropped_segments:
            context += f", {_count(accepted.dropped_segments, 'passage')} left out: it is too long"
        return f"started: {_count(len(self._request.turns), 'turn')}, {context}; {self._where()}"

    def _heard(self, chunk: AudioChunk) -> Iterator[str]:
        if chunk.turn != self._turn:
            yield f"{self._where()} done: {_amount(self._frames)}"
            self._turn, self._frames, self._frames_told = chunk.turn, 0, 0
        self._frames += chunk.codes.num_frames
        if self._frames - self._frames_told >= _FRAMES_BETWEEN_NEWS:
            self._frames_told = self._frames
            yield f"{self._where()}: {_amount(self._frames)} so far"

    def _where(self) -> str:
        return f"turn {self._turn + 1} of {len(self._request.turns)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _amount(frames: int) -> str:
    return f"{frames} frames, {frames / FRAME_RATE_HZ:.1f} s"
