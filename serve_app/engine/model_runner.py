"""Runs the model on the rows of a batch: prefills prompts, launches decode steps."""

import numpy as np
import torch

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.prefill import PrefillChunk
from serve_app.engine.prefix_cache import CachedPiece, PrefixCache
from serve_app.engine.prompt import Piece
from serve_app.engine.row_state import RowState, plan_for
from serve_app.engine.runner import PendingFrames
from serve_app.engine.scheduler import Move, Swap
from serve_app.engine.sequence import Sequence
from serve_app.engine.steps.plain import MakeStep, PlainStep
from serve_app.engine.steps.prefill import PromptChunks, embed
from serve_app.model.csm import Csm
from serve_app.model.kv_views import TokenRange


class ModelRunner:
    """Satisfies `runner.Runner`. Owns the KV memory and the state of all rows."""

    def __init__(
        self,
        model: Csm,
        max_rows: int,
        max_positions: int,
        prefixes: PrefixCache | None = None,
        make_step: MakeStep = PlainStep,
    ) -> None:
        self._model = model
        self._prefixes = prefixes
        self._kv = KvCache(model.shape, max_rows, max_positions, model.device, model.dtype)
        self._state = RowState(model.shape, max_rows, model.device, model.dtype)
        self._step = make_step(model, self._kv, self._state)
        self.lookahead = self._step.lookahead

    @torch.inference_mode()
    def restore(self, row: int, sequence: Sequence) -> int:
        """See `Runner.restore`. A prompt that was read beyond its cached beginning is left as it is."""
        num_computed = sequence.num_prefilled
        if self._prefixes is None or num_computed > sequence.num_restored:
            return num_computed
        for cached in self._prefixes.longest_prefix(sequence.prompt.chain):
            # A turn that was spoken to its end holds one position more than its continuation has to prefill.
            end = min(cached.end, sequence.num_to_prefill)
            if end > num_computed:
                self._kv.fill(row, cached.start, cached.kv[:, :, :, : end - cached.start])
                num_computed = end
        return num_computed

    @torch.inference_mode()
    def prefill(self, chunks: list[PrefillChunk]) -> None:
        """See `Runner.prefill`. Puts the context pieces that end in these chunks into the prefix cache."""
        if read := [chunk for chunk in chunks if chunk.num_tokens]:
            slices = [_slice(chunk.sequence, chunk.start, chunk.end) for chunk in read]
            text_ids, frames = (np.concatenate(arrays) for arrays in zip(*slices, strict=True))
            ranges = [TokenRange(chunk.row, chunk.start, chunk.num_tokens) for chunk in read]
            adapters = [chunk.sequence.adapter for chunk in read]
            self._step.prefill.read(PromptChunks(text_ids, frames, ranges, adapters))
        for chunk in chunks:
            self._keep_context(chunk)
            if chunk.is_last:
                last = chunk.end
                self._state.start(
                    chunk.row, chunk.sequence, embed(self._model, *_slice(chunk.sequence, last, last + 1))[0]
                )

    @torch.inference_mode()
    def launch(self, sequences: list[Sequence]) -> PendingFrames:
        """See `Runner.launch`."""
        # From the host's counters: a value read from the device would stop the host until the device is done.
        num_readable = max(sequence.num_positions for sequence in sequences)
        plan = plan_for([s.request.sampling for s in sequences], self._model.shape.codebook_size)
        adapters = [sequence.adapter for sequence in sequences]
        return self._step.launch(len(sequences), num_readable, plan, adapters if any(adapters) else ())

    @torch.inference_mode()
    def move(self, move: Move, num_positions: int) -> None:
        self._kv.move(move.source, move.target, num_positions)
        self._state.move(move.source, move.target)

    @torch.inference_mode()
    def swap(self, swap: Swap, num_positions: int) -> None:
        self._kv.swap(swap.first, swap.second, num_positions)
        self._state.swap(swap.first, swap.second)

    @torch.inference_mode()
    def keep_spoken(self, row: int, sequence: Sequence) -> None:
        """See `Runner.keep_spoken`."""
        if self._prefixes is not None and sequence.is_prefilled and sequence.num_frames:
            piece = sequence.prompt.spoken_piece(sequence.codes)
            self._keep(row, piece, min(piece.end, sequence.num_to_prefill + sequence.num_steps))

    def _keep_context(self, chunk: PrefillChunk) -> None:
        for piece in chunk.sequence.prompt.pieces:
            if chunk.start < piece.end <= chunk.end:
                self._keep(chunk.row, piece, piece.end)

    def _keep(self, row: int, piece: Piece, end: int) -> None:
        if self._prefixes is not None:
            self._prefixes.put(piece.key, CachedPiece(piece.start, end, self._kv.copy_of(row, piece.start, end)))


def _slice(sequence: Sequence, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Text ids [T] and frames [T, K] of positions start..end-1."""
    prompt = sequence.prompt
    return prompt.text_ids[start:end], prompt.frames[start:end]
