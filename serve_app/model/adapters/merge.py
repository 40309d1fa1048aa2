"""An adapter merged into its base's tensors while they are read: W + up @ down, as PEFT's `merge_and_unload` does."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from serve_app.errors import CheckpointError
from serve_app.model.adapters.files import Adapter, LowRank
from serve_app.model.stored import StoredTensor
from serve_app.model.weights import AUDIO_TABLES


def merged(tensors: Iterable[StoredTensor], adapter: Adapter) -> Iterator[StoredTensor]:
    """The base's tensors, changed by `adapter`. Raises CheckpointError where the adapter belongs to another base."""
    stored = list(tensors)
    stored += _untied(stored, adapter)
    check_base({tensor.name: tensor.shape for tensor in stored}, adapter)
    for tensor in stored:
        if tensor.name in adapter.low_rank or tensor.name in adapter.replaced:
            yield replace(tensor, make=lambda t=tensor: _changed(t, adapter))
        else:
            yield tensor


def check_base(shapes: dict[str, tuple[int, ...]], adapter: Adapter) -> None:
    """Raises CheckpointError where the adapter changes tensors that its base lacks, or has in another shape."""
    for name, tensor in adapter.replaced.items():
        _check_shape(adapter, name, tuple(tensor.shape), shapes.get(name))
    for name, change in adapter.low_rank.items():
        _check_shape(adapter, name, _shape_of(change, shapes.get(name)), shapes.get(name))


def _shape_of(change: LowRank, base: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of the weight that the change fits."""
    rows, columns = change.up.shape[0], change.down.shape[1]
    if base is not None and len(base) == 3:
        flat = (columns, rows) if base[1] == columns else (rows, columns)
        return (base[0] if change.rank % base[0] == 0 else 0, *flat)
    return (columns, rows) if change.is_embedding else (rows, columns)


def _check_shape(adapter: Adapter, name: str, found: tuple[int, ...], base: tuple[int, ...] | None) -> None:
    if found == base:
        return
    has = f"has it as {list(base)}" if base else "has no such tensor"
    raise CheckpointError(
        f"{adapter.name}: it changes {name} of {list(found)}, and the base {has}: name the base that it was trained on"
    )


def _untied(stored: list[StoredTensor], adapter: Adapter) -> list[StoredTensor]:
    """The second name of the audio table, where only one is stored and the adapter changes the other.

    Training changes the side that was wrapped, so backbone and depth decoder then have tables of their own.
    """
    names = {tensor.name for tensor in stored}
    changed = {name for name in AUDIO_TABLES if name in adapter.low_rank or name in adapter.replaced}
    tables = [tensor for tensor in stored if tensor.name in AUDIO_TABLES]
    return [replace(tables[0], name=name) for name in AUDIO_TABLES if tables and changed and name not in names]


@torch.no_grad()
def _changed(tensor: StoredTensor, adapter: Adapter) -> Tensor:
    weight = adapter.replaced.get(tensor.name)
    weight = tensor.make() if weight is None else weight
    change = adapter.low_rank.get(tensor.name)
    return weight if change is None else _add(weight.float(), change)


def _add(weight: Tensor, change: LowRank) -> Tensor:
    if weight.ndim == 3:
        return weight + _stacked(weight, change)
    delta = change.up @ change.down * change.scale()
    weight = weight + (delta.T if change.is_embedding else delta)
    if change.magnitude is None:
        return weight
    # DoRA (Liu and others, 2024): the rows keep their own trained norms.
    dim = 0 if change.is_embedding else 1
    return weight / weight.norm(dim=dim, keepdim=True) * change.magnitude.float().flatten().unsqueeze(dim)


def _stacked(weight: Tensor, change: LowRank) -> Tensor:
    """The change of a stack of matrices [E, a, b], whose ranks PEFT keeps as [E * r, in] and [out, r * E]."""
    num, rows = weight.shape[:2]
    down, up = change.down.unflatten(0, (num, -1)), change.up.unflatten(1, (-1, num))
    order = "ore,eri->eio" if rows == down.shape[2] else "ore,eri->eoi"
    return torch.einsum(order, up, down) * change.scale(num)
