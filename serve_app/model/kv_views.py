"""Views of the KV memory: where a pass writes new keys and values, and which ones attention reads.

The caller owns the memory, `kv` [layers, 2, rows, G, positions, D].
Shapes: R rows, S new tokens a row, N heads, G key-value heads, L readable positions, D head dim.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class LayerKv(Protocol):
    """One layer's keys and values, for the tokens of one pass."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Write `keys` and `values` [R, S, G, D], then attend with `queries` [R, S, N, D]: [R, S, N * D]."""
        ...


KvView = Sequence[LayerKv]
"""All layers, for one pass."""


class TokenRange(NamedTuple):
    """Consecutive prompt tokens of one row."""

    row: int
    start: int
    """Position of the first."""
    num_tokens: int

    @property
    def end(self) -> int:
        return self.start + self.num_tokens


class BlockKv:
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


class RowKv:
    """One token a row, each row at its own position."""

    __slots__ = ("_keys", "_kv", "_mask", "_positions", "_rows", "_values")

    def __init__(self, kv: Tensor, rows: Tensor, positions: Tensor, mask: Tensor) -> None:
        self._kv = kv
        self._rows = rows
        self._positions = positions
        self._keys, self._values = kv[:, :, :, : mask.shape[-1]]
        self._mask = mask

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        # A slice between two indexed dimensions puts those first: [R, G, D].
        self._kv[0, self._rows, :, self._positions] = keys[:, 0]
        self._kv[1, self._rows, :, self._positions] = values[:, 0]
        return attention(queries, self._keys, self._values, self._mask)


class PackedKv:
    """Token ranges of several rows, concatenated as the tokens of a single row.

    So the matrices are read once for all of them. Only attention, which is cheap, runs range by range.
    """

    __slots__ = ("_kv", "_masks", "_positions", "_ranges", "_rows")

    def __init__(
        self, kv: Tensor, ranges: Sequence[TokenRange], rows: Tensor, positions: Tensor, masks: Sequence[Tensor]
    ) -> None:
        self._kv = kv
        self._ranges = ranges
        self._rows = rows
        self._positions = positions
        self._masks = masks

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        self._kv[0, self._rows, :, self._positions] = keys[0]
        self._kv[1, self._rows, :, self._positions] = values[0]
        sizes = [tokens.num_tokens for tokens in self._ranges]
        num_used = sum(sizes)
        mixed = []
        parts = queries[:, :num_used].split(sizes, dim=1)
        for tokens, part, mask in zip(self._ranges, parts, self._masks, strict=True):
            readable_keys, readable_values = self._kv[:, tokens.row : tokens.row + 1, :, : tokens.end]
            mixed.append(attention(part, readable_keys, readable_values, mask))
        if queries.shape[1] > num_used:
            mixed.append(mixed[0].new_zeros(1, queries.shape[1] - num_used, mixed[0].shape[-1]))
        return torch.cat(mixed, dim=1)


def kv_at_block(kv: Tensor, start: int, end: int) -> list[LayerKv]:
    """For tokens at positions start..end-1 of every row; token s reads positions up to its own."""
    mask = causal_mask(start, end, kv.device) if end - start > 1 else None
    return list[LayerKv](BlockKv(layer, start, end, mask) for layer in kv)


def kv_at_positions(kv: Tensor, positions: Tensor, num_readable: int) -> list[LayerKv]:
    """For one token a row at `positions` [R], all below `num_readable`."""
    rows = torch.arange(positions.shape[0], device=kv.device)
    mask = (torch.arange(num_readable, device=kv.device) <= positions[:, None])[:, None, None]
    return list[LayerKv](RowKv(layer, rows, positions, mask) for layer in kv)


def kv_of_ranges(kv: Tensor, ranges: Sequence[TokenRange], rows: Tensor, positions: Tensor) -> list[LayerKv]:
    """For the tokens of `ranges`, whose `rows` and `positions` are [T]. Tokens after the last range are padding."""
    masks = [causal_mask(tokens.start, tokens.end, kv.device) for tokens in ranges]
    return list[LayerKv](PackedKv(layer, ranges, rows, positions, masks) for layer in kv)


def causal_mask(start: int, end: int, device: torch.device) -> Tensor:
    """[1, 1, S, L] for tokens at positions start..end-1. True where a token may read."""
    positions = torch.arange(end, device=device)
    return (positions <= positions[start:, None])[None, None]


def attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """`queries` [R, S, N, D] over `keys` and `values` [R, G, L, D] to [R, S, N * D].

    `mask` is [R or 1, 1, S, L], or None where every position may be read. The query heads of a group share its keys:
    they are folded into the token axis, so that the keys need not be copied for each head.
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
