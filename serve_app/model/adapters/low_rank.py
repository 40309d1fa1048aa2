"""Adapters that are switched row by row while the model runs, beside the base's own matrices.

A block's matrix may hold several projections (`qkv`, `gate_up`): its parts. Each part has a change of its own.
Shapes: r ranks, P parts, R rows, S tokens a row, T tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.errors import CheckpointError
from serve_app.model.adapters.files import Adapter, LowRank
from serve_app.model.adapters.merge import check_base
from serve_app.model.csm import Csm
from serve_app.model.device import send
from serve_app.model.shape import CsmShape, TransformerShape
from serve_app.model.weights import CODEC_PREFIX, destinations

PARTS: Mapping[str, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""The matrices of a block, and the stored names of their parts."""
STACKS = {"backbone": "backbone_model", "depth": "depth_decoder.model"}


@dataclass(frozen=True, slots=True)
class Change:
    """Of one matrix. The scale is in `up`."""

    down: Tensor
    """[P * r, in]"""
    up: Tensor
    """[out, r]: the rows of part p take ranks p * r and following of what `down` gives."""
    ends: tuple[int, ...]
    """The row after each part's last."""

    @property
    def rank(self) -> int:
        return self.up.shape[1]

    def of(self, x: Tensor) -> Tensor:
        """What is added to the product of `x` [..., in]: [..., out]."""
        inner, starts = F.linear(x, self.down).split(self.rank, dim=-1), (0, *self.ends)
        ups = (self.up[start:end] for start, end in zip(starts, self.ends, strict=False))
        return torch.cat([F.linear(part, up) for part, up in zip(inner, ups, strict=True)], dim=-1)


BlockChanges = Mapping[str, Change]
"""By the matrix's name in `layers.Block`. Matrices that an adapter leaves alone are missing."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """An adapter in the model's own type and memory."""

    name: str
    rank: int
    backbone: tuple[BlockChanges, ...]
    depth: tuple[BlockChanges, ...]

    @property
    def num_bytes(self) -> int:
        changes = (change for block in (*self.backbone, *self.depth) for change in block.values())
        return sum(change.down.nbytes + change.up.nbytes for change in changes)

    def on(self, device: torch.device, dtype: torch.dtype) -> "LoadedAdapter":
        """A copy there. What is there already is shared."""
        stacks = {
            stack: tuple(
                {name: _moved(c, device, dtype) for name, c in block.items()} for block in getattr(self, stack)
            )
            for stack in STACKS
        }
        return LoadedAdapter(self.name, self.rank, **stacks)


class BlockAdapters(Protocol):
    """What one block's rows add to its products."""

    def add(self, matrix: str, x: Tensor, product: Tensor) -> Tensor:
        """`product` of `x`, with the changes of the rows that have an adapter."""
        ...


@dataclass(frozen=True, slots=True)
class RowAdapters:
    """The adapters of one pass, block by block."""

    backbone: Sequence[BlockAdapters]
    depth: Sequence[BlockAdapters]


class _Groups:
    """Satisfies `BlockAdapters`: the rows of each adapter are taken out, multiplied and added back."""

    __slots__ = ("_dim", "_groups")

    def __init__(self, groups: list[tuple[Tensor, BlockChanges]], dim: int) -> None:
        self._groups = groups
        self._dim = dim

    def add(self, matrix: str, x: Tensor, product: Tensor) -> Tensor:
        for rows, block in self._groups:
            if (change := block.get(matrix)) is not None:
                product.index_add_(self._dim, rows, change.of(x.index_select(self._dim, rows)))
        return product


def adapters_of_rows(adapters: Sequence[LoadedAdapter | None], device: torch.device) -> RowAdapters | None:
    """For passes over one or more tokens of each row, [R, S, ...]. None where no row has an adapter."""
    return _grouped(adapters, 0, device)


def adapters_of_tokens(adapters: Sequence[LoadedAdapter | None], device: torch.device) -> RowAdapters | None:
    """For a pass over the tokens of several prompts in one row, [1, T, ...]."""
    return _grouped(adapters, 1, device)


def _grouped(adapters: Sequence[LoadedAdapter | None], dim: int, device: torch.device) -> RowAdapters | None:
    rows: dict[LoadedAdapter, list[int]] = {}
    for row, adapter in enumerate(adapters):
        if adapter is not None:
            rows.setdefault(adapter, []).append(row)
    if not rows:
        return None
    groups = [(send(torch.tensor(numbers), device), adapter) for adapter, numbers in rows.items()]

    def blocks(stack: str) -> list[BlockAdapters]:
        count = len(getattr(groups[0][1], stack))
        return [_Groups([(rows, getattr(a, stack)[layer]) for rows, a in groups], dim) for layer in range(count)]

    return RowAdapters(blocks("backbone"), blocks("depth"))


def place_adapter(adapter: Adapter, shape: CsmShape, device: torch.device, dtype: torch.dtype) -> LoadedAdapter:
    """Lay out `adapter` for a model of `shape`. Raises CheckpointError for what cannot be switched row by row."""
    adapter = _without_idle(adapter)
    model = Csm(shape, torch.device("meta"), torch.float32)
    check_base({name: tuple(place(model).shape) for name, place in destinations(shape).items()}, adapter)
    left = dict(adapter.low_rank)
    stacks = {
        ours: tuple(_block(left, f"{stored}.layers.{layer}", getattr(shape, ours)) for layer in range(layers))
        for ours, stored in STACKS.items()
        for layers in (getattr(shape, ours).num_layers,)
    }
    others = [*left, *adapter.replaced, *(n for n, change in adapter.low_rank.items() if change.magnitude is not None)]
    if others:
        raise CheckpointError(
            f"{adapter.name}: it changes {others[0]}, which only a merged adapter may: merge it by "
            "csm-serve checkpoint convert"
        )
    return LoadedAdapter(adapter.name, adapter.rank, **stacks).on(device, dtype)


def _without_idle(adapter: Adapter) -> Adapter:
    """Trainers wrap the codec's matrices too, which take no part in training and change nothing."""
    low_rank = {
        name: change
        for name, change in adapter.low_rank.items()
        if not name.startswith(CODEC_PREFIX) or bool(change.up.any() and change.down.any())
    }
    return Adapter(adapter.name, low_rank, adapter.replaced)


def _block(left: dict[str, LowRank], layer: str, shape: TransformerShape) -> dict[str, Change]:
    """Takes the changes of one block out of `left`."""
    return dict(_changes(left, layer, shape))


def part_sizes(shape: TransformerShape) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Of each matrix of a block: the rows of its parts, and its columns."""
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    hidden, inner = shape.hidden_size, shape.intermediate_size
    rows = {"qkv": (queries, keys, keys), "out": (hidden,), "gate_up": (inner, inner), "down": (hidden,)}
    return rows, {"qkv": hidden, "out": queries, "gate_up": hidden, "down": inner}


def _changes(left: dict[str, LowRank], layer: str, shape: TransformerShape) -> Iterator[tuple[str, Change]]:
    sizes, columns = part_sizes(shape)
    for matrix, parts in PARTS.items():
        found = [left.pop(f"{layer}.{part}.weight", None) for part in parts]
        rank = max((change.rank for change in found if change is not None), default=0)
        if not rank:
            continue
        down, up = torch.zeros(len(parts) * rank, columns[matrix]), torch.zeros(sum(sizes[matrix]), rank)
        start, ends = 0, []
        for number, (change, size) in enumerate(zip(found, sizes[matrix], strict=True)):
            if change is not None:
                down[number * rank : number * rank + change.rank] = change.down
                up[start : start + size, : change.rank] = change.up * change.scale()
            start += size
            ends.append(start)
        yield matrix, Change(down, up, tuple(ends))


def _moved(change: Change, device: torch.device, dtype: torch.dtype) -> Change:
    return Change(change.down.to(device, dtype), change.up.to(device, dtype), change.ends)
