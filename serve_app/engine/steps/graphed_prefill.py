"""Prefill as CUDA graphs: whatever a pass reads goes to the device in one copy, and is read in one replay."""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.steps.graphs import Graph, Recorder
from serve_app.engine.steps.prefill import Prefill, PromptChunks
from serve_app.model.cuda_graphs import garbage_collection_off
from serve_app.model.device import send_into
from serve_app.model.kernels.arguments import Places, PromptTokens

_log = logging.getLogger(__name__)

PREFILL_BUCKETS = (64, 128, 256)
"""Tokens of a graph. 256 are what `engine.prefill_chunk_tokens` is by default; a longer pass takes several replays."""
_PLAIN_ROWS = 3
"""Of a table: text ids, rows and positions. Below them are the codes."""

StaticPrefill = Callable[[PromptTokens], Tensor]
"""Writes keys and values to fixed memory. It reads nothing from the host. What it returns is ignored."""


class GraphedPrefill:
    """Satisfies `Prefill`."""

    def __init__(
        self, prefill: StaticPrefill, recorder: Recorder, tables: dict[int, Tensor], spare: int, eager: Prefill
    ) -> None:
        """`tables`: see `prefill_tables`. `spare`: the position that no sequence reads. `eager` reads with adapters."""
        self._prefill = prefill
        self._recorder = recorder
        self._tables = tables
        self._spare = spare
        self._eager = eager
        with garbage_collection_off():
            self._graphs = dict(self._record_all())

    def read(self, chunks: PromptChunks) -> None:
        """See `Prefill.read`."""
        if any(chunks.adapters):
            self._eager.read(chunks)
            return
        tokens = _laid_out(chunks)
        # Each replay finds what the one before has written, so a range may be cut anywhere.
        for start in range(0, tokens.shape[1], PREFILL_BUCKETS[-1]):
            self._replay(tokens[:, start : start + PREFILL_BUCKETS[-1]])

    def _replay(self, tokens: NDArray[np.int64]) -> None:
        num_tokens = tokens.shape[1]
        bucket = next(size for size in PREFILL_BUCKETS if size >= num_tokens)
        padded = np.zeros((len(tokens), bucket), np.int64)
        padded[:, :num_tokens] = tokens
        padded[2, num_tokens:] = self._spare
        send_into(self._tables[bucket], torch.from_numpy(padded))
        self._graphs[bucket].replay()

    def _record_all(self) -> Iterator[tuple[int, Graph]]:
        """The largest first, so that the smaller ones reuse its memory. While recording all tokens are padding."""
        for bucket in reversed(PREFILL_BUCKETS):
            table = self._tables[bucket]
            table[2] = self._spare
            with torch.inference_mode():
                yield bucket, self._recorder.record(partial(self._prefill, tokens_of(table)))[0]
        _log.info("recorded %d CUDA graphs of prompts of up to %d tokens", len(PREFILL_BUCKETS), PREFILL_BUCKETS[-1])


def prefill_tables(num_codebooks: int, device: torch.device) -> dict[int, Tensor]:
    """The memory that the graphs read, [3 + K, T] for each number of tokens."""
    return {
        bucket: torch.zeros(_PLAIN_ROWS + num_codebooks, bucket, dtype=torch.int64, device=device)
        for bucket in PREFILL_BUCKETS
    }


def tokens_of(table: Tensor) -> PromptTokens:
    return PromptTokens(table[0], table[_PLAIN_ROWS:], Places(table[1], table[2]))


def _laid_out(chunks: PromptChunks) -> NDArray[np.int64]:
    """[3 + K, T], as in the table."""
    rows = np.repeat([tokens.row for tokens in chunks.ranges], [tokens.num_tokens for tokens in chunks.ranges])
    positions = np.concatenate([np.arange(tokens.start, tokens.end) for tokens in chunks.ranges])
    return np.concatenate(([chunks.text_ids, rows, positions], chunks.frames.T))
