"""Takes utterances that do not end by themselves back to their last good frame, and draws them again from there.

About one CSM utterance in six runs away: silence or babble follows the text. Frames beyond a plausible length, and long
silence within speech, are held back until the utterance goes on or ends, so that they can be dropped unheard. All
decisions follow from frames and not from time, so a seed gives the same answer streamed or whole.
"""

import dataclasses
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from serve_app.audio.silence import is_silent
from serve_app.messages import (
    FRAME_RATE_HZ,
    FRAME_SAMPLES,
    Accepted,
    AudioChunk,
    Codes,
    FinishReason,
    GenerationRequest,
)
from serve_app.speech.seeds import sub_seed
from serve_app.speech.text.duration import frame_cap

MAX_ATTEMPTS = 2
"""Draws of one utterance after the first."""
PLAUSIBLE_WORDS_PER_SECOND = 1.5
"""A slow reader, pauses included. English is read at 2 to 3 words a second."""
_KEPT_SILENCE_FRAMES = 5
"""0.4 s, a pause as between two sentences. It is sent at once, and stays at the end of a rescued utterance."""
_BYTES_PER_FRAME = 2 * FRAME_SAMPLES

OpenStream = Callable[[GenerationRequest], AsyncGenerator[Accepted | AudioChunk, None]]


class PieceEnd(StrEnum):
    """How an utterance came to its end."""

    ITSELF = "itself"
    RESCUED = "rescued"
    CUT = "cut"
    """It ran away in every attempt, and ends at its last good frame."""
    LIMIT = "limit"
    """The request's own limit of audio was reached."""
    BROKEN = "broken"


@dataclass(slots=True)
class Rescue:
    """Speaks one utterance of `num_words` words. `end` is set when `messages` has ended."""

    open_stream: OpenStream
    request: GenerationRequest
    num_words: int
    end: PieceEnd = PieceEnd.BROKEN
    _held: "_Held" = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self._held = _Held(plausible_frames(self.num_words), self.request.resume)

    async def messages(self) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """The decoder's stream of this utterance. The last chunk carries `finish`, EOS if it ended or was rescued."""
        # A second greedy draw would give the same frames.
        for attempt in range(1 if self.request.sampling.greedy else MAX_ATTEMPTS + 1):
            request = self._attempt(attempt)
            async with aclosing(self.open_stream(request)) as messages:
                async for message in messages:
                    if isinstance(message, Accepted):
                        if attempt == 0:
                            yield message
                        continue
                    if message.finish is None or not self._ran_away(message.finish):
                        for chunk in self._held.take(replace(message, attempt=attempt)):
                            yield chunk
            finish = self._held.finish
            if finish is not None:
                self.end = self._end(finish, attempt)
                return
        self.end = PieceEnd.CUT
        yield self._held.cut()

    def _attempt(self, attempt: int) -> GenerationRequest:
        if attempt == 0:
            return self.request
        seed = sub_seed(self.request.sampling.seed, 0, attempt)
        sampling = replace(self.request.sampling, seed=seed)
        return replace(self.request, sampling=sampling, resume=self._held.take_back(), priority=self._urgent)

    @property
    def _urgent(self) -> int:
        """A priority that is not refused, since a listener is there. Background work stays in the background."""
        return self.request.priority if self.request.priority > 0 else min(self.request.priority, -1)

    def _ran_away(self, finish: FinishReason) -> bool:
        """Whether the stream ran away. One that stopped at the request's own limit did not."""
        if finish is FinishReason.LENGTH:
            return self.request.sampling.max_frames >= frame_cap(self.num_words)
        return finish is FinishReason.RUNAWAY

    def _end(self, finish: FinishReason, attempt: int) -> PieceEnd:
        if finish is FinishReason.EOS:
            return PieceEnd.RESCUED if attempt else PieceEnd.ITSELF
        return PieceEnd.LIMIT if finish is FinishReason.LENGTH else PieceEnd.BROKEN


class _Held:
    """The frames of one utterance: those that were sent, and after them those that are held back."""

    def __init__(self, plausible: int, sent: Codes | None) -> None:
        """`sent`: before the stream broke off, and now goes on."""
        self._plausible = plausible
        self._sent: list[Codes] = [] if sent is None else [sent]
        self._num_sent = 0 if sent is None else sent.num_frames
        self._waiting: list[AudioChunk] = []
        self._has_spoken = False
        self._silent_frames = 0
        self._no_codes: Codes | None = None
        self.finish: FinishReason | None = None

    def take(self, chunk: AudioChunk) -> list[AudioChunk]:
        """The chunks to send now: all up to the first frame to hold back."""
        self._no_codes = Codes.empty(chunk.codes.num_codebooks)
        if chunk.finish is not None:
            self.finish = chunk.finish
            return [*self._send(_frames(self._waiting)), chunk]
        self._listen(chunk)
        self._waiting.append(chunk)
        num_waiting = _frames(self._waiting)
        implausible = self._num_sent + num_waiting - self._plausible
        held = max(implausible, self._silent_frames - _KEPT_SILENCE_FRAMES, 0)
        return self._send(num_waiting - min(held, num_waiting))

    def take_back(self) -> Codes | None:
        """The codes of the frames that were sent, or None. Drops the frames that are held back."""
        self._waiting = []
        self._silent_frames = min(self._silent_frames, _KEPT_SILENCE_FRAMES)
        return sum(self._sent[1:], self._sent[0]) if self._sent else None

    def cut(self) -> AudioChunk:
        """The last chunk of an utterance that ends at the last sent frame."""
        assert self._no_codes is not None, "a stream has a chunk"
        return AudioChunk(self._num_sent, b"", self._no_codes, FinishReason.RUNAWAY)

    def _send(self, num_frames: int) -> list[AudioChunk]:
        sent: list[AudioChunk] = []
        while self._waiting and num_frames > 0:
            chunk = self._waiting.pop(0)
            if chunk.codes.num_frames > num_frames:
                chunk, rest = _split(chunk, num_frames)
                self._waiting.insert(0, rest)
            num_frames -= chunk.codes.num_frames
            self._num_sent += chunk.codes.num_frames
            self._sent.append(chunk.codes)
            sent.append(chunk)
        return sent

    def _listen(self, chunk: AudioChunk) -> None:
        for start in range(0, len(chunk.pcm), _BYTES_PER_FRAME):
            silent = is_silent(np.frombuffer(chunk.pcm[start : start + _BYTES_PER_FRAME], dtype="<i2"))
            self._silent_frames = self._silent_frames + 1 if silent and self._has_spoken else 0
            self._has_spoken = self._has_spoken or not silent


def _split(chunk: AudioChunk, num_frames: int) -> tuple[AudioChunk, AudioChunk]:
    pcm_bytes, code_bytes = num_frames * _BYTES_PER_FRAME, num_frames * 2 * chunk.codes.num_codebooks
    head = replace(chunk, pcm=chunk.pcm[:pcm_bytes], codes=replace(chunk.codes, data=chunk.codes.data[:code_bytes]))
    tail = replace(chunk, pcm=chunk.pcm[pcm_bytes:], codes=replace(chunk.codes, data=chunk.codes.data[code_bytes:]))
    return head, replace(tail, first_frame=chunk.first_frame + num_frames)


def plausible_frames(num_words: int) -> int:
    """Frames in which even a slow reader has spoken `num_words` words."""
    return int((2.0 + num_words / PLAUSIBLE_WORDS_PER_SECOND) * FRAME_RATE_HZ)


def _frames(chunks: list[AudioChunk]) -> int:
    return sum(chunk.codes.num_frames for chunk in chunks)
