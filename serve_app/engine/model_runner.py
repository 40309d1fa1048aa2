"""Runs the model on rows: prefill prompts, launch one frame for all."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.parts import PendingFrames, PrefillPart
from serve_app.engine.prefix_cache import CachedPiece, PrefixCache
from serve_app.engine.prompt import Piece
from serve_app.engine.row_state import RowState, plan_for
from serve_app.engine.scheduler import Move, Swap
from serve_app.engine.sequence import Sequence
from serve_app.engine.steps.plain import MakeStep, PlainStep
from serve_app.model.csm import Csm
from serve_app.model.kv_views import Span

_CUDA_PREFILL_BUCKET = 64
"""A pass is padded to a multiple of it, so that a GPU meets few shapes: each new one has its kernels chosen anew."""


class ModelRunner:
    """Owns what the rows of a batch need between steps."""

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
    def restore(self, row: int, sequence: Sequence) -> None:
        """Copy what is remembered of the prompt's beginning, unless more of it was computed already."""
        if self._prefixes is None or sequence.num_prefilled > sequence.num_restored:
            return
        for cached in self._prefixes.longest_prefix(sequence.prompt.chain):
            # What was spoken to its end is one position longer than what goes on from there has to read.
            end = min(cached.end, sequence.num_to_prefill)
            if end > sequence.num_prefilled:
                self._kv.fill(row, cached.start, cached.kv[:, :, :, : end - cached.start])
                sequence.num_prefilled = sequence.num_restored = end

    @torch.inference_mode()
    def prefill(self, parts: list[PrefillPart]) -> None:
        """Compute the next positions of several prompts in one pass; one that reached its end is ready to decode."""
        spans = [Span(part.row, part.sequence.num_prefilled, part.num_tokens) for part in parts if part.num_tokens]
        if spans:
            read = [part.sequence for part in parts if part.num_tokens]
            self._model.prefill(self._embed_spans(read, spans), self._kv.backbone, spans)
        for row, sequence, num_tokens in parts:
            start = sequence.num_prefilled
            sequence.num_prefilled += num_tokens
            self._keep_context(row, sequence, start, sequence.num_prefilled)
            if sequence.is_prefilled:
                last = sequence.num_to_prefill
                self._state.start(row, sequence, self._embed(*_slice(sequence, last, last + 1))[0])

    @torch.inference_mode()
    def launch(self, sequences: list[Sequence]) -> PendingFrames:
        """The next frame of each of the first rows, which hold `sequences`."""
        # Known on the host, so that the device need not be asked.
        num_readable = max(sequence.num_positions for sequence in sequences)
        plan = plan_for([s.request.sampling for s in sequences], self._model.shape.codebook_size)
        return self._step.launch(len(sequences), num_readable, plan)

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
        """Keep what `sequence` computed of itself, for requests that will have it as context, or itself later."""
        if self._prefixes is not None and sequence.is_prefilled and sequence.num_frames:
            piece = sequence.prompt.spoken_piece(sequence.codes)
            self._keep(row, piece, min(piece.end, sequence.num_to_prefill + sequence.num_steps))

    def _keep_context(self, row: int, sequence: Sequence, start: int, end: int) -> None:
        """Keep the pieces whose last position was computed in start..end-1."""
        for piece in sequence.prompt.pieces:
            if start < piece.end <= end:
                self._keep(row, piece, piece.end)

    def _keep(self, row: int, piece: Piece, end: int) -> None:
        if self._prefixes is not None:
            self._prefixes.put(piece.key, CachedPiece(piece.start, end, self._kv.copy_of(row, piece.start, end)))

    def _embed_spans(self, sequences: list[Sequence], spans: list[Span]) -> Tensor:
        """[T, H], padded on CUDA."""
        slices = [_slice(sequence, span.start, span.end) for sequence, span in zip(sequences, spans, strict=True)]
        text_ids, frames = (np.concatenate(arrays) for arrays in zip(*slices, strict=True))
        padding = -len(text_ids) % _CUDA_PREFILL_BUCKET if self._model.device.type == "cuda" else 0
        return F.pad(self._embed(text_ids, frames), (0, 0, 0, padding))

    def _embed(self, text_ids: np.ndarray, frames: np.ndarray) -> Tensor:
        """[T] text ids, and [T, K] codes where those are -1, to [T, H]."""
        model = self._model
        embedded = torch.empty(len(text_ids), model.shape.backbone.hidden_size, device=model.device, dtype=model.dtype)
        # Places are found on the host: to find them on the device would make the host wait for it.
        text_at, frames_at = np.flatnonzero(text_ids >= 0), np.flatnonzero(text_ids < 0)
        embedded[self._on_device(text_at)] = model.embed_text(self._on_device(text_ids[text_at]))
        embedded[self._on_device(frames_at)] = model.embed_frames(self._on_device(frames[frames_at]))
        return embedded

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._model.device, non_blocking=True)


def _slice(sequence: Sequence, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Text ids [T] and frames [T, K] of positions start..end-1."""
    prompt = sequence.prompt
    return prompt.text_ids[start:end], prompt.frames[start:end]
