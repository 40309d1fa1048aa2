"""The transformer block that backbone and depth decoder share (Llama: RMSNorm, GQA with RoPE, SwiGLU).

Shapes: R rows, S new tokens a row, L readable positions, H hidden, N heads, G key-value heads, D head dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve_app.model.rope import rotate
from serve_app.model.shape import TransformerShape


class RmsNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention over keys and values that the caller owns. `qkv` is the three projections in one."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.num_kv_heads = shape.num_kv_heads
        self.head_dim = shape.head_dim
        width = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
        self.qkv = nn.Linear(shape.hidden_size, width, bias=False)
        self.out = nn.Linear(shape.num_heads * shape.head_dim, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, rotation: Tensor, kv: Tensor, where: "Where") -> Tensor:
        """`x` [R, S, H]; `kv` [2, R, G, max_positions, D] is written at `where` before it is read."""
        num_rows, num_tokens, _ = x.shape
        heads = self.qkv(x).view(num_rows, num_tokens, -1, self.head_dim)
        split = self.num_heads + self.num_kv_heads
        queries, keys = rotate(heads[:, :, :split], rotation).tensor_split((self.num_heads,), dim=2)
        where.write(kv, keys, heads[:, :, split:])
        # The query heads of a group share its keys: folding them into the query length spares copying the keys.
        folded = queries.view(num_rows, num_tokens, self.num_kv_heads, -1, self.head_dim).permute(0, 2, 3, 1, 4)
        readable_keys, readable_values = kv[:, :, :, : where.num_readable]
        mixed = F.scaled_dot_product_attention(
            folded.reshape(num_rows, self.num_kv_heads, -1, self.head_dim),
            readable_keys,
            readable_values,
            attn_mask=where.mask_for(self.num_heads // self.num_kv_heads),
        )
        mixed = mixed.view(num_rows, self.num_kv_heads, -1, num_tokens, self.head_dim).permute(0, 3, 1, 2, 4)
        return self.out(mixed.reshape(num_rows, num_tokens, -1))


class Where:
    """Where new tokens go in the key-value memory, and what each of them may read.

    `positions` [R, S]: token s of row r is written at positions[r, s] and reads positions 0..positions[r, s].
    """

    def __init__(self, positions: Tensor, num_readable: int) -> None:
        self.positions = positions
        self.num_readable = num_readable
        self._mask = torch.arange(num_readable, device=positions.device) <= positions[:, None, :, None]
        self._folded: Tensor | None = None

    def write(self, kv: Tensor, keys: Tensor, values: Tensor) -> None:
        """`keys` and `values` [R, S, G, D] into `kv` [2, R, G, max_positions, D]."""
        rows = torch.arange(self.positions.shape[0], device=self.positions.device)[:, None]
        kv[0].transpose(1, 2)[rows, self.positions] = keys
        kv[1].transpose(1, 2)[rows, self.positions] = values

    def mask_for(self, group_size: int) -> Tensor | None:
        """[R, 1, group_size * S, L], for queries folded as in `Attention`; None where everything may be read."""
        if self._folded is None:
            self._folded = self._mask.repeat(1, 1, group_size, 1)
        return self._folded


class SharedWhere(Where):
    """All rows at the same consecutive places: `positions` is [1, S], and memory is written as one block."""

    def __init__(self, start: int, end: int, device: torch.device) -> None:
        super().__init__(torch.arange(start, end, device=device)[None], end)
        self._start = start

    def write(self, kv: Tensor, keys: Tensor, values: Tensor) -> None:
        kv[0, :, :, self._start : self.num_readable] = keys.transpose(1, 2)
        kv[1, :, :, self._start : self.num_readable] = values.transpose(1, 2)

    def mask_for(self, group_size: int) -> Tensor | None:
        return None if self.num_readable - self._start == 1 else super().mask_for(group_size)


class SwiGlu(nn.Module):
    """`gate_up` is the two projections in one."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.gate_up = nn.Linear(shape.hidden_size, 2 * shape.intermediate_size, bias=False)
        self.down = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.attention_norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.attention = Attention(shape)
        self.mlp_norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = SwiGlu(shape)

    def forward(self, x: Tensor, rotation: Tensor, kv: Tensor, where: Where) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotation, kv, where)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """A stack of blocks and its final norm."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
        self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)

    def forward(self, x: Tensor, rotation: Tensor, kv: Tensor, where: Where) -> Tensor:
        """`x` [R, S, H] to the normed last hidden states [R, S, H].

        `rotation` [R or 1, S, 2, D] belongs to the tokens' positions; `kv` [layers, 2, R, G, max_positions, D].
        """
        for layer, layer_kv in zip(self.layers, kv, strict=True):
            x = layer(x, rotation, layer_kv, where)
        return self.norm(x)
