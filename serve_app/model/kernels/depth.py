"""The passes of the depth decoder with the kernels, as Csm.draw_frame computes them."""

from functools import partial

import torch
from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.kernels.arguments import Places
from serve_app.model.kernels.attention_output import add_attention_output
from serve_app.model.kernels.normed import normed_linear
from serve_app.model.kernels.stack import last_norm, run


class DepthPasses:
    """Owns the keys and values of a frame, which every frame overwrites."""

    def __init__(self, model: Csm, max_rows: int) -> None:
        depth, num_codebooks = model.shape.depth, model.shape.num_codebooks
        sizes = (depth.num_layers, 2, max_rows, depth.num_kv_heads, num_codebooks, depth.head_dim)
        self._model = model
        self._kv = torch.zeros(sizes, device=model.device, dtype=model.dtype)
        # Kept, because they take longer to make than a pass.
        self._places = [_places(codebook, max_rows, model.device) for codebook in range(1, num_codebooks)]

    def logits(self, inputs: Tensor, codebook: int) -> Tensor:
        """[R, V] in float32, of a codebook after the first, from the embeddings [R, S, E] of what came last.

        Overwrites `inputs`.
        """
        model, x = self._model, inputs.flatten(0, 1)
        places = Places(*(each[: len(x)] for each in self._places[codebook - 1]))
        attend = partial(add_attention_output, places=places)
        residual = run(model.depth, x, model.depth_rotation, places, self._kv, attend)
        # In float32: rounding would make different logits equal.
        logits = inputs.new_empty(len(inputs), model.shape.vocab_size, dtype=torch.float32)
        last = residual.of_last_tokens(inputs.shape[1])
        normed_linear(last, last_norm(model.depth), model.depth_heads[codebook - 1], logits)
        return logits


def _places(codebook: int, num_rows: int, device: torch.device) -> Places:
    """Row by row. The first pass reads the backbone's state and code 0, every other one code."""
    num_tokens = 2 if codebook == 1 else 1
    tokens = torch.arange(num_rows * num_tokens, device=device)
    return Places(tokens // num_tokens, codebook + 1 - num_tokens + tokens % num_tokens)
