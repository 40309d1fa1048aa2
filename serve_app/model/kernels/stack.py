"""The blocks of a transformer with the kernels, as layers.Transformer computes them."""

from collections.abc import Callable

from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Places, Residual
from serve_app.model.kernels.linear import skinny_linear, split_linear, swiglu
from serve_app.model.kernels.norm import add_rms_norm
from serve_app.model.kernels.normed import normed_swiglu
from serve_app.model.kernels.normed_qkv import normed_qkv
from serve_app.model.layers import Block, Transformer
from serve_app.model.rope import RotationTable

Attend = Callable[[int, Tensor], Tensor]
"""Layer and [T, (N + 2 G) * D] projection to [T, N * D]. Writes keys and values, too."""
Output = Callable[[int, Tensor], Tensor]
"""Layer and rotated queries [T, N, D] to the output projection of their attention, as partial sums [parts, T, H]."""


def run(transformer: Transformer, x: Tensor, attend: Attend) -> Residual:
    """`x` [T, H] to the last residual. For any number of rows."""
    residual = Residual.of(x)
    for layer, block in enumerate(transformer.blocks):
        norm, mlp_norm = _norms(transformer, block)
        x, normed = add_rms_norm(residual, norm)
        mixed = attend(layer, skinny_linear(normed, block.qkv))
        x, normed = add_rms_norm(Residual(x, split_linear(mixed, block.out)), mlp_norm)
        residual = Residual(x, split_linear(swiglu(normed, block.gate_up), block.down))
    return residual


def run_few(
    transformer: Transformer, x: Tensor, table: RotationTable, places: Places, kv: Tensor, output: Output
) -> Residual:
    """The same in fewer kernels, for at most `tiles.MAX_FEW_ROWS` rows: no norm and no rotation has one of its own.

    Writes keys and values to their places in `kv` [layers, 2, rows, G, P, D].
    """
    residual = Residual.of(x)
    for layer, block in enumerate(transformer.blocks):
        norm, mlp_norm = _norms(transformer, block)
        x, queries = normed_qkv(residual, norm, block.qkv, table, places, kv[layer])
        x, gated = normed_swiglu(Residual(x, output(layer, queries)), mlp_norm, block.gate_up)
        residual = Residual(x, split_linear(gated, block.down))
    return residual


def last_norm(transformer: Transformer) -> Norm:
    return Norm(transformer.norm, transformer.shape.rms_norm_eps)


def _norms(transformer: Transformer, block: Block) -> tuple[Norm, Norm]:
    eps = transformer.shape.rms_norm_eps
    return Norm(block.attention_norm, eps), Norm(block.mlp_norm, eps)
