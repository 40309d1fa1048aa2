"""A stand-in for the model, to measure the server around it. It needs no torch and produces no speech."""

import bisect
import logging
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from serve_app.engine.prefill import PrefillChunk
from serve_app.engine.runner import DrawnFrames, EngineParts, PendingFrames
from serve_app.engine.scheduler import Move, Swap
from serve_app.engine.sequence import Sequence
from serve_app.messages import ModelInfo, TrainedFor
from serve_app.settings import Settings, StandInSettings

CODEBOOK_SIZE = 2048
_CHARS_PER_TOKEN = 4
_ANY_LENGTH = 1_000_000
"""Words of one utterance: there is no model that a long text could confuse."""
_log = logging.getLogger(__name__)


def stand_in_parts(settings: Settings) -> EngineParts:
    """The stand-in runner and tokenizer. The rest of the engine is the real one."""
    assert settings.stand_in is not None, "the stand-in needs its settings"
    info = ModelInfo(
        model=settings.model,
        weights="stand-in",
        num_codebooks=settings.stand_in.num_codebooks,
        codebook_size=CODEBOOK_SIZE,
        max_positions=settings.engine.max_positions,
        device="none",
        dtype="none",
        max_batch_size=settings.engine.max_batch_size,
        trained_for=TrainedFor(longest_piece_words=_ANY_LENGTH),
    )
    _log.warning("a stand-in generates tones to measure the server; there is no model and no speech")
    return EngineParts(StandInRunner(settings.stand_in), StandInTokenizer(), info)


class StandInTokenizer:
    """About as many tokens as a real one makes of English."""

    def encode(self, speaker: int, text: str) -> list[int]:
        return [speaker] * (2 + -(-len(text) // _CHARS_PER_TOKEN))


class StandInRunner:
    """Takes the time that a model would. Its codes depend on the request's seed and the frame number alone.

    Steps follow one another at the configured pace, whatever the engine does between them, as a GPU hides that work
    too. A step that starts a whole step late sets a new pace; later steps do not catch up.
    """

    def __init__(
        self,
        settings: StandInSettings,
        clock: Callable[[], float] = time.monotonic,
        # Sleeping holds neither the interpreter's lock nor a core, like waiting for a GPU.
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.lookahead = 0
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._due = float("-inf")

    def restore(self, row: int, sequence: Sequence) -> int:
        return sequence.num_prefilled

    def prefill(self, chunks: list[PrefillChunk]) -> None:
        pass

    def launch(self, sequences: list[Sequence]) -> PendingFrames:
        self._wait(step_ms(self._settings.step_ms_by_batch, len(sequences)) / 1000)
        seeds = np.array([sequence.request.sampling.seed for sequence in sequences])
        frames = np.array([sequence.num_frames for sequence in sequences])
        codes = frame_codes(seeds, frames, self._settings.num_codebooks)
        if self._settings.frames is not None:
            codes[frames >= self._settings.frames] = 0  # end of speech
        return DrawnFrames(codes)

    def keep_spoken(self, row: int, sequence: Sequence) -> None:
        pass

    def move(self, move: Move, num_positions: int) -> None:
        pass

    def swap(self, swap: Swap, num_positions: int) -> None:
        pass

    def _wait(self, step_seconds: float) -> None:
        now = self._clock()
        follows = now - self._due < step_seconds
        self._due = (self._due if follows else now) + step_seconds
        if self._due > now:
            self._sleep(self._due - now)


def frame_codes(seeds: NDArray[np.int64], frames: NDArray[np.int64], num_codebooks: int) -> NDArray[np.int64]:
    """Codes [R, K] for R seeds and frame numbers. They are never zero, and never equal those of the frame before."""
    first = seeds % CODEBOOK_SIZE + frames
    return 1 + (first[:, None] + 61 * np.arange(num_codebooks)) % (CODEBOOK_SIZE - 1)


def step_ms(by_batch: Mapping[int, float], batch: int) -> float:
    """Linear between the table's batch sizes and constant beyond its ends. 0 for an empty table."""
    if not by_batch:
        return 0.0
    sizes = sorted(by_batch)
    above = bisect.bisect_left(sizes, batch)
    if above == 0 or above == len(sizes):
        return by_batch[sizes[min(above, len(sizes) - 1)]]
    low, high = sizes[above - 1], sizes[above]
    share = (batch - low) / (high - low)
    return by_batch[low] + share * (by_batch[high] - by_batch[low])
