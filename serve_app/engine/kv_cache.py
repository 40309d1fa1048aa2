"""The KV memory of the batch: one row of keys and values for each running sequence."""

import torch
from torch import Tensor

from serve_app.model.shape import CsmShape


class KvCache:
    """Backbone memory [layers, 2, rows, G, max_positions + 1, D], and scratch memory for the depth decoder.

    No sequence reads the last position. Padding, and steps launched ahead of their sequence's end, write there.

    Memory starts as zeros: attention multiplies a masked position's value by zero, so it must not be NaN. On a CPU,
    pages that were never written cost no memory.
    """

    def __init__(
        self, shape: CsmShape, max_rows: int, max_positions: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        def zeros(layers: int, kv_heads: int, positions: int, head_dim: int) -> Tensor:
            return torch.zeros(layers, 2, max_rows, kv_heads, positions, head_dim, device=device, dtype=dtype)

        backbone, depth = shape.backbone, shape.depth
        self.max_rows = max_rows
        self.max_positions = max_positions
        """The number of the spare position, too."""
        self.backbone = zeros(backbone.num_layers, backbone.num_kv_heads, max_positions + 1, backbone.head_dim)
        self._depth = zeros(depth.num_layers, depth.num_kv_heads, shape.num_codebooks, depth.head_dim)

    def first_rows(self, num_rows: int) -> Tensor:
        return self.backbone[:, :, :num_rows]

    def depth_scratch(self, num_rows: int) -> Tensor:
        return self._depth[:, :, :num_rows]

    def move(self, source: int, target: int, num_positions: int) -> None:
        self.backbone[:, :, target, :, :num_positions] = self.backbone[:, :, source, :, :num_positions]

    def swap(self, first: int, second: int, num_positions: int) -> None:
        """Exchange two rows layer by layer, so that the temporary copy is a fraction of a row."""
        for layer in self.backbone[:, :, :, :, :num_positions]:
            held = layer[:, first].clone()
            layer[:, first] = layer[:, second]
            layer[:, second] = held

    def copy_of(self, row: int, start: int, end: int) -> Tensor:
        """A copy of positions start..end-1: [layers, 2, G, end - start, D]."""
        return self.backbone[:, :, row, :, start:end].clone(memory_format=torch.contiguous_format)

    def fill(self, row: int, start: int, kv: Tensor) -> None:
        """Write a result of `copy_of` to positions from `start` on."""
        self.backbone[:, :, row, :, start : start + kv.shape[3]] = kv
