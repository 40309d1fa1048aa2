"""The seam between the engine and the model: `Runner` is all that the engine knows of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.engine.prefill import PrefillChunk
from serve_app.engine.prompt import Tokenizer
from serve_app.engine.scheduler import Move, Swap
from serve_app.engine.sequence import Sequence
from serve_app.messages import ModelInfo

if TYPE_CHECKING:
    from serve_app.engine.adapters import AdapterStore


class PendingFrames(Protocol):
    """One frame for each row of a decode step. The device may still be computing it."""

    def codes(self) -> NDArray[np.int64]:
        """[R, K]. Waits until they are there."""
        ...


@dataclass(frozen=True, slots=True)
class DrawnFrames:
    """Frames that are computed already."""

    drawn: NDArray[np.int64]

    def codes(self) -> NDArray[np.int64]:
        return self.drawn


class Runner(Protocol):
    """Runs the model on the rows of a batch. The engine's thread owns it.

    A runner reads sequences and never changes them: the engine counts what the runner computed.
    """

    lookahead: int
    """How many decode steps may be launched before the codes of the first are taken."""

    def restore(self, row: int, sequence: Sequence) -> int:
        """Copy the cached beginning of a prompt into its row. Returns how many positions are computed then.

        That is `sequence.num_prefilled` where the cache adds nothing.
        """
        ...

    def prefill(self, chunks: list[PrefillChunk]) -> None:
        """Compute the chunks' positions in one pass. A prompt whose last chunk is among them can decode then."""
        ...

    def launch(self, sequences: list[Sequence]) -> PendingFrames:
        """Start the next frame of the first rows, which hold `sequences`."""
        ...

    def keep_spoken(self, row: int, sequence: Sequence) -> None:
        """Put what a row computed into the prefix cache, for requests that continue from it."""
        ...

    def move(self, move: Move, num_positions: int) -> None:
        """Copy the first `num_positions` positions of a row, and its state, to another row."""
        ...

    def swap(self, swap: Swap, num_positions: int) -> None:
        """Exchange two rows, the longer of which holds `num_positions` positions."""
        ...


@dataclass(frozen=True, slots=True)
class EngineParts:
    """The parts of an engine that depend on the model."""

    runner: Runner
    tokenizer: Tokenizer
    info: ModelInfo
    adapters: "AdapterStore | None" = None
    """None where none can be loaded."""
