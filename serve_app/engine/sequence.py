"""A request inside the engine: how far it has come, and which messages are due.

Only the engine and its scheduler change a sequence. Runners read it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serve_app.engine.prompt import Prompt
from serve_app.messages import FRAME_RATE_HZ, Accepted, Codes, FinishReason, GenerationRequest, TokenFrames

if TYPE_CHECKING:
    from serve_app.model.adapters.low_rank import LoadedAdapter

_MAX_DOUBLINGS = 10

Emit = Callable[[Accepted | TokenFrames | Exception], None]
"""Takes a sequence's messages on the engine's thread. An exception ends the stream: the consumer sees it raised."""


@dataclass(slots=True, eq=False)
class Sequence:
    """`num_frames` includes the resumed frames, like `first_frame` in the messages."""

    request: GenerationRequest
    prompt: Prompt
    emit: Emit
    arrived_at: float
    """Seconds of the engine's clock."""
    adapter: "LoadedAdapter | None" = None
    """What the request's `adapter` names, loaded."""
    num_prefilled: int = 0
    """Prompt positions that are computed."""
    num_restored: int = 0
    """How many of those came from the prefix cache."""
    num_launched: int = 0
    """Decode steps given to the device. Each computes one position more."""
    num_steps: int = 0
    """Decode steps whose frames were taken. The last may have drawn the end of speech."""
    num_frames: int = 0
    finish: FinishReason | None = None
    is_accepted: bool = False
    """Its stream is open. It may have to wait for a row again, but it is not refused any more."""
    arrival: int = 0
    """A number that the scheduler counts up, to order sequences that arrived at the same time."""
    aside_since: float | None = None
    """Set while it waits because it gave up its row to a request that is in a hurry."""
    aside_seconds: float = 0.0
    """How long it was set aside in all. This time is not its own fault and does not count."""
    has_aged: bool = False
    """It was set aside for so long that it counts as interactive from then on."""
    played_out_at: float = 0.0
    """When a listener who plays every frame as it arrives has heard all frames so far."""
    _frames: list[bytes] = field(default_factory=list)
    """The frames generated here. The resumed ones are in the request."""
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
        if self.aside_since is not None:
            return math.inf
        return self.arrived_at + self.aside_seconds + self.request.timeout_seconds

    def seconds_aside(self, now: float) -> float:
        """How long it was set aside so far."""
        return self.aside_seconds + (0.0 if self.aside_since is None else now - self.aside_since)

    @property
    def priority(self) -> int:
        return 0 if self.has_aged else self.request.priority

    @property
    def place_of_arrival(self) -> tuple[float, int]:
        return self.arrived_at, self.arrival

    @property
    def is_continuation(self) -> bool:
        """Whether it continues an answer that has begun. Such a sequence is not refused."""
        return self.is_accepted or self.request.priority < 0

    @property
    def is_background(self) -> bool:
        return self.request.priority > 0 and not self.has_aged

    @property
    def frames_heard_per_second(self) -> float:
        """By a listener of a paced request."""
        return FRAME_RATE_HZ * self.request.speed

    @property
    def num_unsent(self) -> int:
        return self.num_frames - self._num_sent

    @property
    def num_to_prefill(self) -> int:
        """Prompt positions without the last, which is the input of the first decode step."""
        return self.prompt.num_positions - 1

    @property
    def is_prefilled(self) -> bool:
        return self.num_prefilled == self.num_to_prefill

    @property
    def num_positions(self) -> int:
        """Positions of its row, including the one that the next decode step computes."""
        return self.prompt.num_positions + self.num_launched

    @property
    def unread_pieces(self) -> list[bytes]:
        """Keys of the context pieces that are not computed yet."""
        return [piece.key for piece in self.prompt.pieces if piece.end > self.num_prefilled]

    @property
    def codes(self) -> Codes:
        """All frames of this utterance, including the resumed ones."""
        resumed = self.request.resume.data if self.request.resume else b""
        return Codes(resumed + b"".join(self._frames), self._num_codebooks)

    def accept(self, replica: str, now: float) -> None:
        """Open the stream, now that the sequence has a row. A sequence that was set aside has an open stream."""
        if self.aside_since is not None:
            self.aside_seconds = self.seconds_aside(now)
            self.aside_since = None
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

    def note_restored(self, num_positions: int) -> None:
        """Count the prompt's first `num_positions` as computed, from the prefix cache."""
        if num_positions > self.num_prefilled:
            self.num_prefilled = self.num_restored = num_positions

    def note_prefilled(self, num_positions: int) -> None:
        """Count the prompt's first `num_positions` as computed."""
        self.num_prefilled = num_positions

    def append(self, frame: NDArray[np.integer], repeated_frames_limit: int, now: float) -> FinishReason | None:
        """Take one generated frame [K]. Returns why the sequence ends with it, or None.

        End of speech is a frame whose codes but the last are all zero, as in transformers' `generate`. That frame is
        not kept.
        """
        self.num_steps += 1
        if not frame[:-1].any():
            return FinishReason.EOS
        data = Codes.from_array(frame[None]).data
        self._num_repeats = self._num_repeats + 1 if data == self._last_frame else 1
        self._last_frame = data
        self._frames.append(data)
        self.num_frames += 1
        self.played_out_at = max(self.played_out_at, now) + 1 / self.frames_heard_per_second
        if self._num_repeats >= repeated_frames_limit:
            return FinishReason.RUNAWAY
        return FinishReason.LENGTH if self.num_frames >= self.prompt.max_frames else None

    def size_of_next_message(self, frames_in_hand: int, most: int) -> int:
        """In frames: 1, 1, 2, 2, 4, 4, … up to `most`, and from the start a quarter of what its listener has in hand.

        A message costs the same CPU time whatever its size, and the first must not wait. Each size comes twice, so
        that the listener has audio in reserve before the next wait gets longer. Who has heard the part before has it.
        """
        doubled = 1 << min(self._num_messages // 2, _MAX_DOUBLINGS)
        return min(max(doubled, frames_in_hand // 4), most)

    def send(self) -> None:
        """Send the frames that are not sent yet."""
        self._send(None)

    def set_aside(self, now: float) -> None:
        """Give up the row. The frames so far become the end of the prompt, from which the sequence continues."""
        if self.num_unsent:
            self._send(None)
        self.aside_since = now
        self.prompt = self.prompt.after(self.codes)
        self.num_prefilled = self.num_restored = self.num_launched = self.num_steps = 0

    def send_last(self, reason: FinishReason) -> None:
        """End the stream with its last message."""
        self.finish = reason
        self._send(reason)

    def fail(self, reason: FinishReason, error: Exception) -> None:
        """End the stream by raising `error` at its consumer."""
        self.finish = reason
        self.emit(error)

    def cancel(self) -> None:
        """End it without a message: its consumer has left."""
        self.finish = FinishReason.CANCELLED

    def _send(self, finish: FinishReason | None) -> None:
        unsent = self._frames[self._num_sent - self._num_inherited :]
        self.emit(TokenFrames(self._num_sent, Codes(b"".join(unsent), self._num_codebooks), finish))
        self._num_sent = self.num_frames
        self._num_messages += 1

    @property
    def _num_codebooks(self) -> int:
        return self.prompt.frames.shape[1]
