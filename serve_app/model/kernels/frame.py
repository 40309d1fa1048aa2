"""One frame for all rows with the kernels, as Csm.step, Csm.draw_frame and RowState.advance compute it."""

from typing import NamedTuple

import torch
from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import Codebook, DepthBlock, FrameRows, NextInput, Places
from serve_app.model.kernels.attention import decode_attention
from serve_app.model.kernels.depth_attention import depth_attention
from serve_app.model.kernels.draw import draw_codes
from serve_app.model.kernels.frame_state import advance, embed_frame
from serve_app.model.kernels.linear import skinny_linear
from serve_app.model.kernels.rope import rope_and_write
from serve_app.model.kernels.stack import run
from serve_app.model.sampling import RowSampling


class DrawnFrame(NamedTuple):
    """The codes [R, K] that are being drawn, and the sampling parameters."""

    codes: Tensor
    sampling: RowSampling


class FusedFrame:
    """Only launches kernels over fixed memory, so that a CUDA graph can record it once the kernels are compiled.

    It uses neither torch's random state nor values of the host.
    """

    def __init__(self, model: Csm, max_rows: int) -> None:
        shape, depth = model.shape, model.shape.depth
        sizes = (depth.num_layers, 2, max_rows, depth.num_kv_heads, shape.num_codebooks, depth.head_dim)
        self._model = model
        self._shape = shape
        self._depth_kv = torch.zeros(sizes, device=model.device, dtype=model.dtype)
        self._row_ids = torch.arange(max_rows, device=model.device)

    def __call__(self, num_rows: int, num_readable: int, rows: FrameRows) -> Tensor:
        """The next codes [R, K] of the first R rows, whose positions are below `num_readable`."""
        hidden = self._step(num_rows, num_readable, rows)
        codes = self._draw_frame(hidden, rows.sampling)
        embed_frame(codes, self._model.audio_embedding, rows.next_input, rows.num_active)
        advance(codes, rows.position, rows.sampling, rows.num_active)
        return codes

    def _step(self, num_rows: int, num_readable: int, rows: FrameRows) -> Tensor:
        """[R, H]"""
        model, num_heads = self._model, self._shape.backbone.num_heads
        row_ids = self._row_ids[:num_rows]
        is_active = row_ids < rows.num_active
        positions = torch.where(is_active, rows.position[:num_rows], rows.kv.shape[4] - 1)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            places = Places(row_ids, positions)
            queries = rope_and_write(qkv, model.backbone_rotation, places, rows.kv[layer], num_heads)
            return decode_attention(queries, rows.kv[layer], positions, num_readable)

        return run(model.backbone, rows.next_input[:num_rows], attend)

    def _draw_frame(self, hidden: Tensor, sampling: RowSampling) -> Tensor:
        """[R, H] to [R, K]"""
        num_rows, num_codebooks, depth_hidden = len(hidden), self._shape.num_codebooks, self._shape.depth.hidden_size
        codes = torch.empty(num_rows, num_codebooks, device=hidden.device, dtype=torch.int64)
        inputs = hidden.new_empty(num_rows, 2, depth_hidden)
        skinny_linear(hidden, self._model.projection, inputs[:, 0])
        self._draw(hidden, DrawnFrame(codes, sampling), 0, inputs[:, 1])
        for codebook in range(1, num_codebooks):
            states = self._depth_pass(inputs, DepthBlock(0, 2) if codebook == 1 else DepthBlock(codebook, 1))
            inputs = hidden.new_empty(num_rows, 1, depth_hidden)
            self._draw(states, DrawnFrame(codes, sampling), codebook, inputs[:, 0])
        return codes

    def _depth_pass(self, inputs: Tensor, block: DepthBlock) -> Tensor:
        """[R, S, E] at the positions of `block` to the last token's states [R, E]."""
        model, kv = self._model, self._depth_kv[:, :, : len(inputs)]

        def attend(layer: int, qkv: Tensor) -> Tensor:
            return depth_attention(qkv, model.depth_rotation, kv[layer], self._shape.depth.num_heads, block)

        return run(model.depth, inputs.flatten(0, 1), attend, block.num_tokens)

    def _draw(self, states: Tensor, frame: DrawnFrame, codebook: int, embedded: Tensor) -> None:
        """Draw a column of the frame's codes from `states` [R, H or E], and write their embeddings [R, E]."""
        model, shape = self._model, self._shape
        head = model.first_head if codebook == 0 else model.depth_heads[codebook - 1]
        # In float32: rounding would make different logits equal.
        logits = torch.empty(len(states), shape.vocab_size, device=states.device, dtype=torch.float32)
        skinny_linear(states, head, logits)
        table = model.depth_embedding[codebook * shape.vocab_size :]
        drawn = Codebook(codebook, shape.codebook_size)
        draw_codes(logits, frame.sampling, drawn, frame.codes, NextInput(table, embedded))
