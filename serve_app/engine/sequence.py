"""A request inside the engine: how far it is, and the messages it owes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serve_app.engine.prompt import Prompt
from serve_app.messages import FRAME_RATE_HZ, Accepted, Codes, FinishReason, GenerationRequest, TokenFrames

Emit = Callable[[Accepted | TokenFrames | Exception], None]
"""Takes a sequence's messages on the engine's thread; an exception ends the stream by being raised."""


@dataclass(slots=True, eq=False)
class Sequence:
    """`num_frames` counts the resumed frames, like `first_frame` in the messages."""

    request: GenerationRequest
    prompt: Prompt
    emit: Emit
    arrived_at: float
    """Seconds of the engine's clock."""
    num_prefilled: int = 0
    num_restored: int = 0
    """How many of those came from the prefix cache."""
    num_launched: int = 0
    """Decode steps given to the device; each computes one position more."""
    num_steps: int = 0
    """Decode steps whose frames were taken; the last may have drawn the end of speech."""
    num_frames: int = 0
    finish: FinishReason | None = None
    is_accepted: bool = False
    """Its stream was opened: it may have to wait for a row once more, but is not refused."""
    arrival: int = 0
    """Its number among those that came to this scheduler, which gives it."""
    played_out_at: float = 0.0
    """When a listener who plays every frame as it comes has heard all there is."""
    _frames: list[bytes] = field(default_factory=list)
    """Generated here; the resumed ones are the request's."""
    _num_inherited: int = 0
    _num_sent: int = 0
    _num_messages: int = 0
    _last_frame: bytes = b""
    _num_repeats: int = 0

    def __post_init__(self) -> None:
        self.num_frames = self._num_sent = self._num_inherited = self.prompt.num_resumed
        self.played_out_at = self.arrived_at + self.request.lead_seconds

    @property
    def expires_at(self) -> float:
        return self.arrived_at + self.request.timeout_seconds

    @property
    def place_in_line(self) -> tuple[int, float, int]:
        """First by priority, then first come, first served."""
        return self.request.priority, self.arrived_at, self.arrival

    @property
    def goes_on(self) -> bool:
        """Somebody has heard its beginning, or at least been promised the rest."""
        return self.is_accepted or self.request.priority < 0

    @property
    def is_background(self) -> bool:
        return self.request.priority > 0

    @property
    def num_unsent(self) -> int:
        return self.num_frames - self._num_sent

    @property
    def num_to_prefill(self) -> int:
        """Prompt positions without the last: that one is the first decode step's input."""
        return self.prompt.num_positions - 1

    @property
    def is_prefilled(self) -> bool:
        return self.num_prefilled == self.num_to_prefill

    @property
    def num_positions(self) -> int:
        """Positions of its row, up to the one that the next decode step computes."""
        return self.prompt.num_positions + self.num_launched

    @property
    def unread_pieces(self) -> list[bytes]:
        """Keys of the context's pieces that are not computed yet."""
        return [piece.key for piece in self.prompt.pieces if piece.end > self.num_prefilled]

    def append(self, frame: NDArray[np.integer], repeated_frames_limit: int, now: float) -> FinishReason | None:
        """Take one generated frame [K] and say whether it was the last. The end-of-speech frame is not kept.

        End of speech is a frame whose codes but the last are all zero, as transformers' generate has it.
        """
        self.num_steps += 1
        if not frame[:-1].any():
            return FinishReason.EOS
        data = Codes.from_array(frame[None]).data
        self._num_repeats = self._num_repeats + 1 if data == self._last_frame else 1
        self._last_frame = data
        self._frames.append(data)
        self.num_frames += 1
        self.played_out_at = max(self.played_out_at, now) + 1 / FRAME_RATE_HZ
        if self._num_repeats >= repeated_frames_limit:
            return FinishReason.RUNAWAY
        return FinishReason.LENGTH if self.num_frames >= self.prompt.max_frames else None

    def send_due(self, largest_group: int) -> None:
        """Emit once enough frames are there: 1, 1, 2, 2, 4, 4, … up to `largest_group`.

        A message costs the same whatever it holds, and the first must not wait. Each size comes twice, so that the
        listener has something in hand before the next wait becomes longer.
        """
        if self.num_unsent >= min(2 ** (self._num_messages // 2), largest_group):
            self._send(None)

    def accept(self, replica: str, now: float) -> None:
        """It has a row: its stream opens, unless it did before."""
        if self.is_accepted:
            return
        self.is_accepted = True
        self.emit(
            Accepted(
                request_id=self.request.request_id,
                seed=self.request.sampling.seed,
                replica=replica,
                queue_seconds=now - self.arrived_at,
                prompt_tokens=self.prompt.num_positions,
                dropped_segments=self.prompt.dropped_segments,
            )
        )

    def set_aside(self) -> None:
        """Its row is gone: what it has spoken becomes the end of its prompt, to be read and gone on from."""
        if self.num_unsent:
            self._send(None)
        self.prompt = self.prompt.after(self.codes)
        self.num_prefilled = self.num_restored = self.num_launched = self.num_steps = 0

    def send_last(self, reason: FinishReason) -> None:
        self.finish = reason
        self._send(reason)

    def _send(self, finish: FinishReason | None) -> None:
        unsent = self._frames[self._num_sent - self._num_inherited :]
        self.emit(TokenFrames(self._num_sent, Codes(b"".join(unsent), self._num_codebooks), finish))
        self._num_sent = self.num_frames
        self._num_messages += 1

    @property
    def codes(self) -> Codes:
        """All frames of this utterance, the resumed ones included."""
        resumed = self.request.resume.data if self.request.resume else b""
        return Codes(resumed + b"".join(self._frames), self._num_codebooks)

    @property
    def _num_codebooks(self) -> int:
        return self.prompt.frames.shape[1]
