"""The C++ side's structures of adapters, field by field as in kernels/adapters.h."""

import ctypes
from collections.abc import Sequence

from serve_app.model.adapters.low_rank import PARTS, BlockChanges, Change, LoadedAdapter
from serve_app.model.native.structures import MatrixDescription, describe_matrix

_MAX_PARTS = 3


class _Change(ctypes.Structure):
    _fields_ = (
        ("down", MatrixDescription),
        ("up", MatrixDescription),
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


def describe_adapter(adapter: LoadedAdapter) -> AdapterDescription:
    """For as long as `adapter` lives: it holds addresses."""
    rank = max((c.rank for block in (*adapter.backbone, *adapter.depth) for c in block.values()), default=0)
    return AdapterDescription(_layers(adapter.backbone), _layers(adapter.depth), rank)


def _layers(blocks: Sequence[BlockChanges]) -> ctypes.Array[_LayerChanges]:
    changes = [{name: _change(change) for name, change in block.items()} for block in blocks]
    return (_LayerChanges * len(blocks))(*(_LayerChanges(**change) for change in changes))


def _change(change: Change) -> _Change:
    ends = (ctypes.c_int64 * _MAX_PARTS)(*change.ends)
    return _Change(describe_matrix(change.down), describe_matrix(change.up), change.rank, len(change.ends), ends)
