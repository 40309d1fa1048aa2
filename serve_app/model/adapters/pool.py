"""Adapters at fixed places of fixed memory, so that a recorded CUDA graph can use whatever is there at its replay.

The ranks of all placed adapters lie side by side. Every row is multiplied by all of them, and a mask keeps its own.
Shapes: R rows, N ranks that there is room for, P parts of a matrix.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.adapters.low_rank import PARTS, STACKS, BlockChanges, LoadedAdapter, RowAdapters, part_sizes
from serve_app.model.csm import Csm
from serve_app.model.device import send


@dataclass(frozen=True, slots=True)
class _Place:
    """Of one matrix."""

    down: Tensor
    """[P, N, in]"""
    up: Tensor
    """[out, N]"""
    ends: tuple[int, ...]


class RankPool:
    """The engine's thread owns it."""

    def __init__(self, model: Csm, max_rows: int, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self._device = model.device
        self._mask = torch.zeros(max_rows, num_ranks, device=model.device, dtype=model.dtype)
        self._blocks = {
            stack: [_places(model, stack, num_ranks) for _ in getattr(model, stack).blocks] for stack in STACKS
        }
        self._starts: OrderedDict[LoadedAdapter, int] = OrderedDict()
        self._rows: tuple[LoadedAdapter | None, ...] = ()
        self._num_used = 0

    def place(self, adapters: Sequence[LoadedAdapter | None]) -> int | None:
        """Give each row its adapter. Returns how many ranks a step must read, None where they do not fit together."""
        rows = tuple(adapters)
        if rows == self._rows:
            return self._num_used
        wanted = dict.fromkeys(adapter for adapter in rows if adapter is not None)
        if sum(adapter.rank for adapter in wanted) > self.num_ranks:
            return None
        if not all(self._has_place(adapter, wanted) for adapter in wanted):
            # Gaps: lay the wanted ones side by side.
            self._starts.clear()
            for adapter in wanted:
                self._has_place(adapter, wanted)
        mask = torch.zeros(len(self._mask), self.num_ranks)
        for row, adapter in enumerate(rows):
            if adapter is not None:
                mask[row, self._starts[adapter] : self._starts[adapter] + adapter.rank] = 1
        self._mask.copy_(send(mask, self._device))
        self._rows = rows
        self._num_used = max((self._starts[adapter] + adapter.rank for adapter in wanted), default=0)
        return self._num_used

    def adapters(self, num_rows: int, num_ranks: int) -> RowAdapters:
        """Views for a pass over the first rows that reads the first ranks."""
        mask = self._mask[:num_rows, None, :num_ranks]
        return RowAdapters(**{stack: [_Masked(places, mask) for places in self._blocks[stack]] for stack in STACKS})

    def _has_place(self, adapter: LoadedAdapter, wanted: dict[LoadedAdapter, None]) -> bool:
        """Place it before, between or behind those that are wanted, instead of those that are not."""
        if adapter in self._starts:
            return True
        taken = sorted((start, start + a.rank) for a, start in self._starts.items() if a in wanted)
        start = 0
        for begin, end in taken:
            if begin - start >= adapter.rank:
                break
            start = end
        if start + adapter.rank > self.num_ranks:
            return False
        for other in [a for a, s in self._starts.items() if s < start + adapter.rank and start < s + a.rank]:
            del self._starts[other]
        self._starts[adapter] = start
        for stack in STACKS:
            for places, block in zip(self._blocks[stack], getattr(adapter, stack), strict=True):
                _write(places, block, start, adapter.rank)
        return True


class _Masked:
    """Satisfies `BlockAdapters`."""

    __slots__ = ("_mask", "_places")

    def __init__(self, places: dict[str, _Place], mask: Tensor) -> None:
        self._places = places
        self._mask = mask

    def add(self, matrix: str, x: Tensor, product: Tensor) -> Tensor:
        place, num_ranks, start, changes = self._places[matrix], self._mask.shape[-1], 0, []
        for down, end in zip(place.down, place.ends, strict=True):
            ranks = F.linear(x, down[:num_ranks]) * self._mask
            changes.append(F.linear(ranks, place.up[start:end, :num_ranks]))
            start = end
        return product + (torch.cat(changes, dim=-1) if len(changes) > 1 else changes[0])


def _places(model: Csm, stack: str, num_ranks: int) -> dict[str, _Place]:
    def zeros(*sizes: int) -> Tensor:
        return torch.zeros(sizes, device=model.device, dtype=model.dtype)

    rows, columns = part_sizes(getattr(model.shape, stack))
    return {
        matrix: _Place(
            zeros(len(parts), num_ranks, columns[matrix]),
            zeros(sum(rows[matrix]), num_ranks),
            tuple(sum(rows[matrix][: number + 1]) for number in range(len(parts))),
        )
        for matrix, parts in PARTS.items()
    }


def _write(places: dict[str, _Place], block: BlockChanges, start: int, rank: int) -> None:
    for matrix, place in places.items():
        down, up = place.down[:, start : start + rank], place.up[:, start : start + rank]
        down.zero_()
        up.zero_()
        if (change := block.get(matrix)) is not None:
            down[:, : change.rank] = change.down.unflatten(0, (-1, change.rank))
            up[:, : change.rank] = change.up
