"""What an engine is put together from, so that whatever runs the model can be replaced as a whole."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.engine.prompt import Tokenizer
from serve_app.engine.scheduler import Move, Swap
from serve_app.engine.sequence import Sequence
from serve_app.messages import ModelInfo


class PrefillPart(NamedTuple):
    """The next `num_tokens` positions of a prompt; none where all of it was restored."""

    row: int
    sequence: Sequence
    num_tokens: int


class PendingFrames(Protocol):
    """One frame for each row of a step, which the device may still be computing."""

    def codes(self) -> NDArray[np.int64]:
        """[R, K]; waits for them."""
        ...


@dataclass(frozen=True, slots=True)
class DrawnFrames:
    """Frames that are there already."""

    drawn: NDArray[np.int64]

    def codes(self) -> NDArray[np.int64]:
        return self.drawn


class Runner(Protocol):
    """Runs the model on the rows of a batch. Owned by the engine's thread."""

    lookahead: int
    """How many steps may be launched before the codes of the first are taken."""

    def restore(self, row: int, sequence: Sequence) -> None:
        """Take what is remembered of a prompt's beginning, and count it in `num_prefilled` and `num_restored`."""
        ...

    def prefill(self, parts: list[PrefillPart]) -> None:
        """Compute the next positions of some prompts in one pass, and count them in `num_prefilled`."""
        ...

    def launch(self, sequences: list[Sequence]) -> PendingFrames:
        """Begin the next frame of each of the first rows, which hold `sequences`."""
        ...

    def keep_spoken(self, row: int, sequence: Sequence) -> None:
        """Remember what a row computed, for requests that have its sequence as context, or go on with it."""
        ...

    def move(self, move: Move, num_positions: int) -> None:
        """Take a row's memory, `num_positions` long, to where the sequence lives now."""
        ...

    def swap(self, swap: Swap, num_positions: int) -> None:
        """Exchange the memory of two rows, of which the longer has `num_positions`."""
        ...


@dataclass(frozen=True, slots=True)
class EngineParts:
    """All that depends on the model."""

    runner: Runner
    tokenizer: Tokenizer
    info: ModelInfo
