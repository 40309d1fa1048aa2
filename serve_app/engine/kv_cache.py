"""Owns the memory that sequences need between steps: one row of keys and values each."""

import torch
from torch import Tensor

from serve_app.model.shape import CsmShape


class KvCache:
    """Backbone memory [layers, 2, rows, G, max_positions + 1, D], and scratch memory for the depth decoder.

    The last position is a spare that no sequence reads: what belongs to nobody (padding, a step launched ahead of its
    sequence's end) is written there.

    Zeros, not empty: a masked position still meets its value times zero, and must not be NaN. Untouched pages cost
    no memory on a CPU.
    """

    def __init__(
        self, shape: CsmShape, max_rows: int, max_positions: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        def zeros(layers: int, kv_heads: int, positions: int, head_dim: int) -> Tensor:
            return torch.zeros(layers, 2, max_rows, kv_heads, positions, head_dim, device=device, dtype=dtype)

        backbone, depth = shape.backbone, shape.depth
        self.backbone = zeros(backbone.num_layers, backbone.num_kv_heads, max_positions + 1, backbone.head_dim)
        self._depth = zeros(depth.num_layers, depth.num_kv_heads, shape.num_codebooks, depth.head_dim)

    def first_rows(self, num_rows: int) -> Tensor:
        return self.backbone[:, :, :num_rows]

    def depth_scratch(self, num_rows: int) -> Tensor:
        return self._depth[:, :, :num_rows]

    def move(self, source: int, target: int, num_positions: int) -> None:
        self.backbone[:, :, target, :, :num_positions] = self.backbone[:, :, source, :, :num_positions]

    def swap(self, first: int, second: int, num_positions: int) -> None:
        """Layer by layer: what it needs besides is a fraction of a row."""
        for layer in self.backbone[:, :, :, :, :num_positions]:
            held = layer[:, first].clone()
            layer[:, first] = layer[:, second]
            layer[:, second] = held

    def copy_of(self, row: int, start: int, end: int) -> Tensor:
        """[layers, 2, G, end - start, D] of its own memory."""
        return self.backbone[:, :, row, :, start:end].clone(memory_format=torch.contiguous_format)

    def fill(self, row: int, start: int, kv: Tensor) -> None:
        """Write what `copy_of` gave, at positions from `start` on."""
        self.backbone[:, :, row, :, start : start + kv.shape[3]] = kv
