"""Runs the model on rows: prefill a prompt, decode one frame for all."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.prefix_cache import CachedPiece, PrefixCache
from serve_app.engine.prompt import Piece
from serve_app.engine.row_state import RowState, plan_for
from serve_app.engine.scheduler import Move
from serve_app.engine.sequence import Sequence
from serve_app.model.csm import Csm
from serve_app.model.memory import Memory
from serve_app.model.sampling import FrameSampler


class ModelRunner:
    """The plain, readable step; faster ones must equal it."""

    def __init__(self, model: Csm, max_rows: int, max_positions: int, prefixes: PrefixCache | None = None) -> None:
        self._model = model
        self._prefixes = prefixes
        self._kv = KvCache(model.shape, max_rows, max_positions, model.device, model.dtype)
        self._state = RowState(model.shape, max_rows, model.device, model.dtype)
        self._depth_memories: dict[int, list[Memory]] = {}

    @torch.inference_mode()
    def prefill(self, row: int, sequence: Sequence, max_tokens: int) -> None:
        """Compute the next `max_tokens` positions of the prompt; at its end the row is ready to decode."""
        if sequence.num_prefilled == 0:
            self._restore_prefix(row, sequence)
        start = sequence.num_prefilled
        end = min(start + max_tokens, sequence.num_to_prefill)
        if end > start:
            self._model.prefill(self._embed(sequence, start, end)[None], self._kv.row(row), start)
            self._keep_context(row, sequence, start, end)
        sequence.num_prefilled = end
        if sequence.is_prefilled:
            self._state.start(row, sequence, self._embed(sequence, end, end + 1)[0])

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> NDArray[np.int64]:
        """The next frame of each of the first rows, which hold `sequences`: [R, K] codes."""
        model, num_rows = self._model, len(sequences)
        # Known on the host, so that the device need not be asked.
        num_readable = max(s.prompt.num_positions + s.num_frames - s.prompt.num_resumed for s in sequences)
        hidden = model.step(
            self._state.next_input[:num_rows],
            self._kv.first_rows(num_rows),
            self._state.position[:num_rows],
            num_readable,
        )
        rows = self._state.first_rows(num_rows)
        plan = plan_for([s.request.sampling for s in sequences], model.shape.codebook_size)
        sampler = FrameSampler(rows, plan, model.shape.num_codebooks, model.shape.codebook_size)
        codes = model.draw_frame(hidden, self._depth_memory(num_rows), sampler)
        self._state.advance(codes, model.embed_frames(codes))
        return codes.cpu().numpy()

    @torch.inference_mode()
    def move(self, move: Move, num_positions: int) -> None:
        self._kv.move(move.source, move.target, num_positions)
        self._state.move(move.source, move.target)

    @torch.inference_mode()
    def keep_spoken(self, row: int, sequence: Sequence) -> None:
        """Keep what `sequence` computed of itself, for requests that will have it as context."""
        if self._prefixes is not None and sequence.is_prefilled and sequence.num_frames:
            piece = sequence.prompt.spoken_piece(sequence.codes)
            self._keep(row, piece, min(piece.end, sequence.num_to_prefill + sequence.num_steps))

    def _restore_prefix(self, row: int, sequence: Sequence) -> None:
        if self._prefixes is not None:
            for cached in self._prefixes.longest_prefix(sequence.prompt.pieces):
                self._kv.fill(row, cached.start, cached.kv)
                sequence.num_prefilled = sequence.num_restored = cached.end

    def _keep_context(self, row: int, sequence: Sequence, start: int, end: int) -> None:
        """Keep the pieces whose last position was computed in start..end-1."""
        for piece in sequence.prompt.pieces:
            if start < piece.end <= end:
                self._keep(row, piece, piece.end)

    def _keep(self, row: int, piece: Piece, end: int) -> None:
        if self._prefixes is not None:
            self._prefixes.put(piece.key, CachedPiece(piece.start, end, self._kv.copy_of(row, piece.start, end)))

    def _depth_memory(self, num_rows: int) -> list[Memory]:
        if num_rows not in self._depth_memories:
            self._depth_memories[num_rows] = self._model.depth_memory(self._kv.depth_scratch(num_rows))
        return self._depth_memories[num_rows]

    def _embed(self, sequence: Sequence, start: int, end: int) -> Tensor:
        """[end - start, H]"""
        model, prompt = self._model, sequence.prompt
        text_ids = torch.from_numpy(prompt.text_ids[start:end]).to(model.device)
        frames = torch.from_numpy(prompt.frames[start:end]).to(model.device)
        is_text = torch.from_numpy(prompt.text_ids[start:end] >= 0)
        embedded = torch.empty(end - start, model.shape.backbone.hidden_size, device=model.device, dtype=model.dtype)
        embedded[is_text] = model.embed_text(text_ids[is_text])
        embedded[~is_text] = model.embed_frames(frames[~is_text])
        return embedded
