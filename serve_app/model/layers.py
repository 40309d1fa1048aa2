"""The transformer of backbone and depth decoder (Llama: RMSNorm, GQA with RoPE, SwiGLU).

It uses plain tensors and functions instead of torch modules. A frame takes some 3,000 small operations, and calling a
module costs a CPU as much as the operation in it.

Shapes: R rows, S new tokens a row, H hidden, N heads, G key-value heads, D head dim.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.kv_views import KvView, LayerKv
from serve_app.model.matrix import Matrix, linear
from serve_app.model.rope import Rotation, rotate
from serve_app.model.shape import TransformerShape

if TYPE_CHECKING:
    from serve_app.model.adapters.low_rank import BlockAdapters


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer. `qkv` and `gate_up` each hold several projections."""

    attention_norm: Tensor
    """[H]"""
    qkv: Matrix
    """[(N + 2 G) * D, H]"""
    out: Matrix
    """[H, N * D]"""
    mlp_norm: Tensor
    """[H]"""
    gate_up: Matrix
    """[2 * intermediate, H]"""
    down: Matrix
    """[H, intermediate]"""

    @classmethod
    def empty(cls, shape: TransformerShape, device: torch.device, dtype: torch.dtype) -> "Block":
        def weight(*sizes: int) -> Tensor:
            return torch.empty(sizes, device=device, dtype=dtype)

        hidden, inner, head_dim = shape.hidden_size, shape.intermediate_size, shape.head_dim
        return cls(
            attention_norm=weight(hidden),
            qkv=weight((shape.num_heads + 2 * shape.num_kv_heads) * head_dim, hidden),
            out=weight(hidden, shape.num_heads * head_dim),
            mlp_norm=weight(hidden),
            gate_up=weight(2 * inner, hidden),
            down=weight(hidden, inner),
        )

    def changed(self, change: Callable[[Matrix], Matrix]) -> "Block":
        """A copy with changed matrices. Norms stay."""
        return replace(self, **{name: change(getattr(self, name)) for name in ("qkv", "out", "gate_up", "down")})


class Transformer:
    """A stack of blocks and its final norm."""

    def __init__(self, shape: TransformerShape, device: torch.device, dtype: torch.dtype) -> None:
        self.shape = shape
        self.blocks = tuple(Block.empty(shape, device, dtype) for _ in range(shape.num_layers))
        self.norm = torch.empty(shape.hidden_size, device=device, dtype=dtype)
        self._eps = shape.rms_norm_eps

    def __call__(
        self, x: Tensor, rotation: Rotation, kv: KvView, adapters: Sequence["BlockAdapters"] | None = None
    ) -> Tensor:
        """`x` [R, S, H] to the normed last hidden states [R, S, H]. `rotation` is that of the tokens' positions."""
        for block, layer_kv, own in zip(self.blocks, kv, adapters or [None] * len(self.blocks), strict=True):
            x = x + self._attend(block, self._normed(x, block.attention_norm), rotation, layer_kv, own)
            x = x + _swiglu(block, self._normed(x, block.mlp_norm), own)
        return self._normed(x, self.norm)

    def change_matrices(self, change: Callable[[Matrix], Matrix]) -> None:
        """Replace the blocks' matrices, block by block: two copies of all of them may not fit into memory."""
        blocks, self.blocks = list(self.blocks), ()
        self.blocks = tuple(blocks.pop(0).changed(change) for _ in range(len(blocks)))

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self._eps)

    def _attend(
        self, block: Block, x: Tensor, rotation: Rotation, kv: LayerKv, adapters: "BlockAdapters | None"
    ) -> Tensor:
        shape, (num_rows, num_tokens, _) = self.shape, x.shape
        num_heads, num_groups, head_dim = shape.num_heads, shape.num_kv_heads, shape.head_dim
        heads = _product(block, "qkv", x, adapters).view(num_rows, num_tokens, -1, head_dim)
        to_rotate, values = heads.split((num_heads + num_groups, num_groups), dim=2)
        queries, keys = rotate(to_rotate, rotation).split((num_heads, num_groups), dim=2)
        return _product(block, "out", kv.attend(queries, keys, values), adapters)


def _swiglu(block: Block, x: Tensor, adapters: "BlockAdapters | None") -> Tensor:
    gate, up = _product(block, "gate_up", x, adapters).chunk(2, dim=-1)
    return _product(block, "down", F.silu(gate) * up, adapters)


def _product(block: Block, matrix: str, x: Tensor, adapters: "BlockAdapters | None") -> Tensor:
    product = linear(x, getattr(block, matrix))
    return product if adapters is None else adapters.add(matrix, x, product)
