"""The blocks of a transformer with the kernels, as layers.Transformer computes them."""

from collections.abc import Callable

from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Places, Residual
from serve_app.model.kernels.linear import add_linear
from serve_app.model.kernels.normed import normed_swiglu
from serve_app.model.kernels.normed_qkv import normed_qkv
from serve_app.model.layers import Transformer
from serve_app.model.matrix import Matrix
from serve_app.model.rope import RotationTable

AddAttention = Callable[[Tensor, Tensor, Tensor, Matrix], Residual]
"""`x` [T, H] plus the output projection of attention of rotated queries [T, N, D] over a layer's [2, rows, G, P, D]."""


def run(
    transformer: Transformer, x: Tensor, table: RotationTable, places: Places, kv: Tensor, attend: AddAttention
) -> Residual:
    """`x` [T, H], which is overwritten, to the last residual. For any number of tokens.

    Writes keys and values to their places in `kv` [layers, 2, rows, G, P, D].
    """
    residual, eps = Residual.of(x), transformer.shape.rms_norm_eps
    for block, layer_kv in zip(transformer.blocks, kv, strict=True):
        x, queries = normed_qkv(residual, Norm(block.attention_norm, eps), block.qkv, table, places, layer_kv)
        residual = attend(x, queries, layer_kv, block.out)
        x, gated = normed_swiglu(residual, Norm(block.mlp_norm, eps), block.gate_up)
        residual = add_linear(x, gated, block.down)
    return residual


def last_norm(transformer: Transformer) -> Norm:
    return Norm(transformer.norm, transformer.shape.rms_norm_eps)
