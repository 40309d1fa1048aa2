"""What an engine is put together from, so that whatever runs the model can be replaced as a whole."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.engine.prompt import Tokenizer
from serve_app.engine.scheduler import Move
from serve_app.engine.sequence import Sequence
from serve_app.messages import ModelInfo


class Runner(Protocol):
    """Runs the model on the rows of a batch. Owned by the engine's thread."""

    def prefill(self, row: int, sequence: Sequence, max_tokens: int) -> None:
        """Compute the next positions of a prompt, and count them in `num_prefilled`."""
        ...

    def decode(self, sequences: list[Sequence]) -> NDArray[np.int64]:
        """The next frame of each of the first rows, which hold `sequences`: [R, K] codes."""
        ...

    def keep_spoken(self, row: int, sequence: Sequence) -> None:
        """Remember what a row computed, for later requests that have its sequence as context."""
        ...

    def move(self, move: Move, num_positions: int) -> None:
        """Take a row's memory, `num_positions` long, to where the sequence lives now."""
        ...


@dataclass(frozen=True, slots=True)
class EngineParts:
    """All that depends on the model."""

    runner: Runner
    tokenizer: Tokenizer
    info: ModelInfo
