"""Keys and values of earlier positions: where new ones are written, and how attention reads them.

The caller owns the memory, `kv` [layers, 2, rows, G, positions, D]; what is made here are views of it.
Shapes: R rows, S new tokens a row, N heads, G key-value heads, L readable positions, D head dim.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class LayerMemory(Protocol):
    """One layer's part, for the tokens of one pass."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write `keys` and `values` [R, S, G, D], then let `queries` [R, S, N, D] read: [R, S, N * D]."""
        ...


Memory = Sequence[LayerMemory]
"""One pass's view of all layers."""


class Span(NamedTuple):
    """Consecutive tokens of one row's prompt."""

    row: int
    start: int
    """Position of the first."""
    num_tokens: int

    @property
    def end(self) -> int:
        return self.start + self.num_tokens


class BlockMemory:
    """All rows at the same consecutive positions."""

    __slots__ = ("_keys", "_mask", "_new_keys", "_new_values", "_values")

    def __init__(self, kv: Tensor, start: int, end: int, mask: Tensor | None) -> None:
        self._new_keys, self._new_values = kv[:, :, :, start:end].transpose(2, 3)
        self._keys, self._values = kv[:, :, :, :end]
        self._mask = mask

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        self._new_keys.copy_(keys)
        self._new_values.copy_(values)
        return attention(queries, self._keys, self._values, self._mask)


class RowMemory:
    """One token a row, each row at a position of its own."""

    __slots__ = ("_keys", "_kv", "_mask", "_positions", "_rows", "_values")

    def __init__(self, kv: Tensor, rows: Tensor, positions: Tensor, mask: Tensor) -> None:
        self._kv = kv
        self._rows = rows
        self._positions = positions
        self._keys, self._values = kv[:, :, :, : mask.shape[-1]]
        self._mask = mask

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        # Indexed dimensions come first where a slice stands between them: [R, G, D].
        self._kv[0, self._rows, :, self._positions] = keys[:, 0]
        self._kv[1, self._rows, :, self._positions] = values[:, 0]
        return attention(queries, self._keys, self._values, self._mask)


class PackedMemory:
    """Spans of several rows, one after the other as the tokens of a single row: the matrices are read once for all,
    and only attention, which is cheap, goes span by span."""

    __slots__ = ("_kv", "_masks", "_positions", "_rows", "_spans")

    def __init__(
        self, kv: Tensor, spans: Sequence[Span], rows: Tensor, positions: Tensor, masks: Sequence[Tensor]
    ) -> None:
        self._kv = kv
        self._spans = spans
        self._rows = rows
        self._positions = positions
        self._masks = masks

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        self._kv[0, self._rows, :, self._positions] = keys[0]
        self._kv[1, self._rows, :, self._positions] = values[0]
        sizes = [span.num_tokens for span in self._spans]
        num_used = sum(sizes)
        mixed = []
        for span, part, mask in zip(self._spans, queries[:, :num_used].split(sizes, dim=1), self._masks, strict=True):
            readable_keys, readable_values = self._kv[:, span.row : span.row + 1, :, : span.end]
            mixed.append(attention(part, readable_keys, readable_values, mask))
        if queries.shape[1] > num_used:
            mixed.append(mixed[0].new_zeros(1, queries.shape[1] - num_used, mixed[0].shape[-1]))
        return torch.cat(mixed, dim=1)


def memory_at_block(kv: Tensor, start: int, end: int) -> list[LayerMemory]:
    """For tokens at positions start..end-1 of every row; token s reads positions up to its own."""
    mask = causal_mask(start, end, kv.device) if end - start > 1 else None
    return list[LayerMemory](BlockMemory(layer, start, end, mask) for layer in kv)


def memory_at_positions(kv: Tensor, positions: Tensor, num_readable: int) -> list[LayerMemory]:
    """For one token a row at `positions` [R], all of them below `num_readable`."""
    rows = torch.arange(positions.shape[0], device=kv.device)
    mask = (torch.arange(num_readable, device=kv.device) <= positions[:, None])[:, None, None]
    return list[LayerMemory](RowMemory(layer, rows, positions, mask) for layer in kv)


def memory_of_spans(kv: Tensor, spans: Sequence[Span], rows: Tensor, positions: Tensor) -> list[LayerMemory]:
    """For the tokens of `spans`, whose `rows` and `positions` are [T]; tokens behind the last span belong to nobody."""
    masks = [causal_mask(span.start, span.end, kv.device) for span in spans]
    return list[LayerMemory](PackedMemory(layer, spans, rows, positions, masks) for layer in kv)


def causal_mask(start: int, end: int, device: torch.device) -> Tensor:
    """[1, 1, S, L] for tokens at positions start..end-1: True where a token may read."""
    positions = torch.arange(end, device=device)
    return (positions <= positions[start:, None])[None, None]


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """`queries` [R, S, N, D] over `keys` and `values` [R, G, L, D] to [R, S, N * D]; `mask` [R or 1, 1, S, L] is None
    where everything may be read.

    The query heads of a group share its keys: each group's are taken for further tokens of one query head, which
    spares copying the keys.
    """
    num_rows, num_tokens, num_heads, head_dim = queries.shape
    num_groups = keys.shape[1]
    if num_tokens == 1:
        folded = queries.reshape(num_rows, num_groups, -1, head_dim)
        mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
        return mixed.view(num_rows, 1, -1)
    folded = queries.view(num_rows, num_tokens, num_groups, -1, head_dim).permute(0, 2, 3, 1, 4)
    mask = None if mask is None else mask.repeat(1, 1, num_heads // num_groups, 1)
    mixed = F.scaled_dot_product_attention(
        folded.reshape(num_rows, num_groups, -1, head_dim), keys, values, attn_mask=mask
    )
    return (
        mixed.view(num_rows, num_groups, -1, num_tokens, head_dim)
        .permute(0, 3, 1, 2, 4)
        .reshape(num_rows, num_tokens, -1)
    )
