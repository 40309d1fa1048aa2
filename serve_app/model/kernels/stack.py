"""The blocks of a transformer with the kernels, as layers.Transformer computes them."""

from collections.abc import Callable

from torch import Tensor

from serve_app.model.kernels.linear import skinny_linear, split_linear, swiglu
from serve_app.model.kernels.norm import add_rms_norm
from serve_app.model.layers import Transformer

Attend = Callable[[int, Tensor], Tensor]
"""Layer and [R, (N + 2 G) * D] projection to [R, N * D]."""


def run(transformer: Transformer, x: Tensor, attend: Attend, num_tokens: int = 1) -> Tensor:
    """Transformer.__call__ over `x` [R * S, H], to the normed states [R, H] of each row's last token."""
    eps, delta = transformer.shape.rms_norm_eps, None
    for layer, block in enumerate(transformer.blocks):
        x, normed = add_rms_norm(x, delta, block.attention_norm, eps)
        mixed = attend(layer, skinny_linear(normed, block.qkv))
        x, normed = add_rms_norm(x, split_linear(mixed, block.out), block.mlp_norm, eps)
        delta = split_linear(swiglu(normed, block.gate_up), block.down)
    if delta is not None:
        delta = delta.unflatten(1, (-1, num_tokens))[:, :, -1]
    return add_rms_norm(x.unflatten(0, (-1, num_tokens))[:, -1], delta, transformer.norm, eps)[1]
