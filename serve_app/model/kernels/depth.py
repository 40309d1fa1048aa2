"""The passes of the depth decoder with the kernels, as Csm.draw_frame computes them."""

from functools import cache

import torch
from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import DepthBlock, Places, Residual
from serve_app.model.kernels.attention_output import attention_output
from serve_app.model.kernels.depth_attention import depth_attention
from serve_app.model.kernels.linear import skinny_linear
from serve_app.model.kernels.norm import add_rms_norm
from serve_app.model.kernels.normed import normed_linear
from serve_app.model.kernels.stack import last_norm, run, run_few
from serve_app.model.kernels.tiles import MAX_FEW_ROWS


class DepthPasses:
    """Owns the keys and values of a frame, which every frame overwrites."""

    def __init__(self, model: Csm, max_rows: int) -> None:
        depth, num_codebooks = model.shape.depth, model.shape.num_codebooks
        sizes = (depth.num_layers, 2, max_rows, depth.num_kv_heads, num_codebooks, depth.head_dim)
        self._model = model
        self._kv = torch.zeros(sizes, device=model.device, dtype=model.dtype)
        # Made before a graph is recorded, and kept: they take longer to make than a pass.
        self._places = cache(self._places_of)
        for codebook in range(1, num_codebooks):
            self._places(_block(codebook))

    def logits(self, inputs: Tensor, codebook: int) -> Tensor:
        """[R, V] in float32, of a codebook after the first, from the embeddings [R, S, E] of what came last."""
        model, block, num_rows = self._model, _block(codebook), len(inputs)
        norm, head = last_norm(model.depth), model.depth_heads[codebook - 1]
        logits = inputs.new_empty(num_rows, model.shape.vocab_size, dtype=torch.float32)
        if num_rows <= MAX_FEW_ROWS:
            residual = self._pass_of_few(inputs.flatten(0, 1), block, num_rows)
            normed_linear(residual.of_last_tokens(block.num_tokens), norm, head, logits)
        else:
            residual = self._pass(inputs.flatten(0, 1), block, num_rows)
            skinny_linear(add_rms_norm(residual.of_last_tokens(block.num_tokens), norm)[1], head, logits)
        return logits

    def _pass(self, x: Tensor, block: DepthBlock, num_rows: int) -> Residual:
        model, kv = self._model, self._kv[:, :, :num_rows]

        def attend(layer: int, qkv: Tensor) -> Tensor:
            return depth_attention(qkv, model.depth_rotation, kv[layer], model.shape.depth.num_heads, block)

        return run(model.depth, x, attend)

    def _pass_of_few(self, x: Tensor, block: DepthBlock, num_rows: int) -> Residual:
        model, kv = self._model, self._kv[:, :, :num_rows]
        places = Places(*(each[: len(x)] for each in self._places(block)))

        def output(layer: int, queries: Tensor) -> Tensor:
            return attention_output(queries, kv[layer], places, model.depth.blocks[layer].out)

        return run_few(model.depth, x, model.depth_rotation, places, kv, output)

    def _places_of(self, block: DepthBlock) -> Places:
        """Of `MAX_FEW_ROWS` rows, row by row."""
        tokens = torch.arange(MAX_FEW_ROWS * block.num_tokens, device=self._kv.device)
        return Places(tokens // block.num_tokens, block.start + tokens % block.num_tokens)


def _block(codebook: int) -> DepthBlock:
    """The first pass reads the backbone's state and code 0, every other one code."""
    return DepthBlock(0, 2) if codebook == 1 else DepthBlock(codebook, 1)
