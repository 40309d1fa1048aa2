"""Keys and values of earlier positions: where new ones are written, and what may be read.

The caller owns the memory, `kv` [layers, 2, R, G, max_positions, D]; what is made here are views of it.
Shapes: R rows, S new tokens a row, G key-value heads, L readable positions, D head dim.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class LayerMemory(Protocol):
    """One layer's part, for the tokens of one pass."""

    keys: Tensor
    values: Tensor
    """[R, G, L, D] all that is readable, the new tokens' own included once they are written."""
    mask: Tensor | None
    """True where a token may read: [R or 1, 1, S, L]; None where it may read everything."""

    def write(self, keys: Tensor, values: Tensor) -> None:
        """[R, S, G, D] each."""
        ...


class BlockMemory:
    """All rows at the same consecutive positions."""

    __slots__ = ("_new_keys", "_new_values", "keys", "mask", "values")

    def __init__(self, kv: Tensor, start: int, end: int, mask: Tensor | None) -> None:
        self._new_keys, self._new_values = kv[:, :, :, start:end].transpose(2, 3)
        self.keys, self.values = kv[:, :, :, :end]
        self.mask: Tensor | None = mask

    def write(self, keys: Tensor, values: Tensor) -> None:
        self._new_keys.copy_(keys)
        self._new_values.copy_(values)


class RowMemory:
    """One token a row, each row at a position of its own."""

    __slots__ = ("_kv", "_positions", "_rows", "keys", "mask", "values")

    def __init__(self, kv: Tensor, rows: Tensor, positions: Tensor, mask: Tensor) -> None:
        self._kv = kv
        self._rows = rows
        self._positions = positions
        self.keys, self.values = kv[:, :, :, : mask.shape[-1]]
        self.mask: Tensor | None = mask

    def write(self, keys: Tensor, values: Tensor) -> None:
        # Indexed dimensions come first where a slice stands between them: [R, G, D].
        self._kv[0, self._rows, :, self._positions] = keys[:, 0]
        self._kv[1, self._rows, :, self._positions] = values[:, 0]


def memory_at_block(kv: Tensor, start: int, end: int) -> list[LayerMemory]:
    """For tokens at positions start..end-1 of every row; token s reads positions up to its own."""
    mask = None
    if end - start > 1:
        positions = torch.arange(end, device=kv.device)
        mask = (positions <= positions[start:, None])[None, None]
    return list[LayerMemory](BlockMemory(layer, start, end, mask) for layer in kv)


def memory_at_positions(kv: Tensor, positions: Tensor, num_readable: int) -> list[LayerMemory]:
    """For one token a row at `positions` [R], all of them below `num_readable`."""
    rows = torch.arange(positions.shape[0], device=kv.device)
    mask = (torch.arange(num_readable, device=kv.device) <= positions[:, None])[:, None, None]
    return list[LayerMemory](RowMemory(layer, rows, positions, mask) for layer in kv)


Memory = Sequence[LayerMemory]
"""One pass's view of all layers."""
