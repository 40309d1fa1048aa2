"""A stream in the audio decoder: frames of one message that wait, and the sound of those that do not."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from serve_app.messages import FRAME_SAMPLES
from serve_app.owner_thread import Inbox


class DecoderStream:
    """A message's frames that wait to be decoded, and who waits for their sound. `slot` is None until one is open.

    A resumed stream first decodes frames that were heard before: they rebuild the slot's state, their sound is dropped.
    """

    def __init__(self) -> None:
        self.slot: int | None = None
        self.inbox: Inbox[NDArray[np.int16]] = Inbox()
        self.pending: deque[NDArray[np.integer]] = deque()
        self.decoded: list[NDArray[np.int16]] = []
        self.num_to_drop = 0

    def next_frames(self, most: int) -> NDArray[np.integer]:
        """[frames, codebooks], at most so many of those that wait."""
        return np.stack([self.pending.popleft() for _ in range(min(most, len(self.pending)))])

    def replay(self, frames: NDArray[np.integer]) -> None:
        assert not self.pending, "what was heard comes before what was not"
        self.pending.extend(frames)
        self.num_to_drop = len(frames)

    def take(self, samples: NDArray[np.int16]) -> None:
        """Some frames' sound. The message's whole sound is handed over at once: each wake-up costs the event loop."""
        num_dropped = min(self.num_to_drop, len(samples) // FRAME_SAMPLES)
        self.num_to_drop -= num_dropped
        if num_dropped * FRAME_SAMPLES < len(samples):
            self.decoded.append(samples[num_dropped * FRAME_SAMPLES :])
        if self.decoded and not self.pending:
            self.inbox.put(np.concatenate(self.decoded))
            self.decoded = []
