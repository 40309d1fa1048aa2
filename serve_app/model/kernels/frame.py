"""One frame for all rows with the kernels, as Csm.step, Csm.draw_frame and RowState.advance compute it."""

import torch
from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import Codebook, FrameRows, NextInput, Places, Residual
from serve_app.model.kernels.attention import decode_attention
from serve_app.model.kernels.depth import DepthPasses
from serve_app.model.kernels.draw import draw_codes
from serve_app.model.kernels.frame_state import advance, embed_frame
from serve_app.model.kernels.linear import add_linear
from serve_app.model.kernels.normed import normed_linear
from serve_app.model.kernels.stack import last_norm, run
from serve_app.model.matrix import Matrix
from serve_app.model.sampling import RowSampling


class FusedFrame:
    """Only launches kernels over fixed memory, so that a CUDA graph can record it once the kernels are compiled.

    It uses neither torch's random state nor values of the host.
    """

    def __init__(self, model: Csm, max_rows: int) -> None:
        self._model = model
        self._shape = model.shape
        self._depth = DepthPasses(model, max_rows)
        self._row_ids = torch.arange(max_rows, device=model.device)

    def __call__(self, num_rows: int, num_readable: int, rows: FrameRows) -> Tensor:
        """The next codes [R, K] of the first R rows, whose positions are below `num_readable`."""
        row_ids = self._row_ids[:num_rows]
        positions = torch.where(row_ids < rows.num_active, rows.position[:num_rows], rows.kv.shape[4] - 1)
        residual = self._step(rows.next_input[:num_rows], rows.kv, Places(row_ids, positions), num_readable)
        codes = self._draw_frame(residual, rows.sampling)
        embed_frame(codes, self._model.audio_embedding, rows.next_input, rows.num_active)
        advance(codes, rows.position, rows.sampling, rows.num_active)
        return codes

    def _step(self, x: Tensor, kv: Tensor, places: Places, num_readable: int) -> Residual:
        """The backbone over one token a row, `x` [R, H]."""

        def attend(x: Tensor, queries: Tensor, layer_kv: Tensor, out: Matrix) -> Residual:
            return add_linear(x, decode_attention(queries, layer_kv, places, num_readable), out)

        # A copy, because the rows that are not running keep their input.
        return run(self._model.backbone, x.clone(), self._model.backbone_rotation, places, kv, attend)

    def _draw_frame(self, residual: Residual, sampling: RowSampling) -> Tensor:
        """The backbone's [R, H] to [R, K]"""
        model, x, num_codebooks = self._model, residual.x, self._shape.num_codebooks
        norm, num_rows = last_norm(model.backbone), len(x)
        codes = torch.empty(num_rows, num_codebooks, device=x.device, dtype=torch.int64)
        inputs = x.new_empty(num_rows, 2, self._shape.depth.hidden_size)
        normed_linear(residual, norm, model.projection, inputs[:, 0])
        # In float32: rounding would make different logits equal.
        logits = x.new_empty(num_rows, self._shape.vocab_size, dtype=torch.float32)
        normed_linear(residual, norm, model.first_head, logits)
        self._draw(logits, sampling, 0, codes, inputs[:, 1])
        for codebook in range(1, num_codebooks):
            logits = self._depth.logits(inputs, codebook)
            inputs = torch.empty_like(inputs[:, :1])
            self._draw(logits, sampling, codebook, codes, inputs[:, 0])
        return codes

    def _draw(self, logits: Tensor, sampling: RowSampling, codebook: int, codes: Tensor, embedded: Tensor) -> None:
        """Draw a column of `codes` [R, K] from logits [R, V], and write the embeddings of it, [R, E]."""
        table = self._model.depth_embedding[codebook * self._shape.vocab_size :]
        drawn = Codebook(codebook, self._shape.codebook_size)
        draw_codes(logits, sampling, drawn, codes, NextInput(table, embedded))
