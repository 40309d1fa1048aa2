"""The C++ side's structures of adapters, field by field as in kernels/adapters.h."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.adapters.low_rank import PARTS, BlockChanges, Change, LoadedAdapter
from serve_app.model.native.structures import MatrixDescription, describe_matrix

_MAX_PARTS = 3
_LANES = 16


class _Change(ctypes.Structure):
    _fields_ = (
        ("down", MatrixDescription),
        ("up", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("num_parts", ctypes.c_int64),
        ("ends", ctypes.c_int64 * _MAX_PARTS),
    )


class _LayerChanges(ctypes.Structure):
    _fields_ = tuple((matrix, _Change) for matrix in PARTS)


class AdapterDescription(ctypes.Structure):
    _fields_ = (
        ("backbone", ctypes.POINTER(_LayerChanges)),
        ("depth", ctypes.POINTER(_LayerChanges)),
        ("rank", ctypes.c_int64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class NativeAdapter:
    """For as long as the adapter itself lives: the description holds addresses."""

    description: AdapterDescription
    kept: list[Tensor]
    """What the kernels take in a form of their own. Prompts are read with the adapter's, so there are two of `up`."""


def describe_adapter(adapter: LoadedAdapter) -> NativeAdapter:
    kept: list[Tensor] = []
    backbone, depth = _layers(adapter.backbone, kept), _layers(adapter.depth, kept)
    rank = max((getattr(layer, name).rank for layer in (*backbone, *depth) for name in PARTS), default=0)
    return NativeAdapter(AdapterDescription(backbone, depth, rank), kept)


def _layers(blocks: Sequence[BlockChanges], kept: list[Tensor]) -> ctypes.Array[_LayerChanges]:
    changes = [{name: _change(change, kept) for name, change in block.items()} for block in blocks]
    return (_LayerChanges * len(blocks))(*(_LayerChanges(**change) for change in changes))


def _change(change: Change, kept: list[Tensor]) -> _Change:
    down, up = change.down, change.up
    if change.rank % 2:
        # One more rank, which changes nothing: the kernels take two at a time.
        down = F.pad(down.unflatten(0, (-1, change.rank)), (0, 0, 0, 1)).flatten(0, 1)
        up = F.pad(up, (0, 1))
    ups = _in_steps(up)
    kept += [down, ups]
    ends = (ctypes.c_int64 * _MAX_PARTS)(*change.ends)
    return _Change(describe_matrix(down), ups.data_ptr(), up.shape[1], len(change.ends), ends)


def _in_steps(up: Tensor) -> Tensor:
    """[out, r] as steps of sixteen rows and two ranks, [out / 16, r / 2, step]; see kernels/adapters.h."""
    if up.shape[0] % _LANES:
        up = F.pad(up, (0, 0, 0, -up.shape[0] % _LANES))
    # Both ranks of a row are one word of bfloat16; in float32 all rows' first ranks precede their second ones.
    words = up if up.dtype == torch.float32 else up.view(torch.int32)
    return words.unflatten(0, (-1, _LANES)).transpose(1, 2).contiguous()
