"""The C++ side's structures of adapters, field by field as in kernels/adapters.h."""

import ctypes
import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.adapters.low_rank import PARTS, BlockChanges, Change, LoadedAdapter
from serve_app.model.native.structures import KINDS

_MAX_PARTS = 3
_LANES = 16
_INPUTS = 32
"""That are packed as one step."""


class _Change(ctypes.Structure):
    _fields_ = (
        ("down", ctypes.c_void_p),
        ("up", ctypes.c_void_p),
        ("cols", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("num_parts", ctypes.c_int64),
        ("ends", ctypes.c_int64 * _MAX_PARTS),
        ("kind", ctypes.c_int32),
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
    description: AdapterDescription
    memory: mmap.mmap
    """What the kernels take in a form of their own. Prompts are read with the adapter's, so there are two of each."""


def describe_adapter(adapter: LoadedAdapter) -> NativeAdapter:
    blocks = (*adapter.backbone, *adapter.depth)
    room = _Room(sum(_num_bytes(change) for block in blocks for change in block.values()))
    backbone, depth = _layers(adapter.backbone, room), _layers(adapter.depth, room)
    rank = max((getattr(layer, name).rank for layer in (*backbone, *depth) for name in PARTS), default=0)
    return NativeAdapter(AdapterDescription(backbone, depth, rank), room.memory)


class _Room:
    """Memory for all of an adapter's steps, in huge pages: they are read again for every codebook."""

    def __init__(self, num_bytes: int) -> None:
        self.memory = mmap.mmap(-1, max(num_bytes, 1))
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # A wish: where the system cannot, nothing changes.
            with suppress(OSError):
                self.memory.madvise(mmap.MADV_HUGEPAGE)
        self._used = 0

    def take(self, values: Tensor) -> int:
        """The address of a copy."""
        taken = torch.frombuffer(self.memory, dtype=values.dtype, count=values.numel(), offset=self._used)
        taken.copy_(values.flatten())
        self._used += values.nbytes
        return taken.data_ptr()


def _layers(blocks: Sequence[BlockChanges], room: _Room) -> ctypes.Array[_LayerChanges]:
    changes = [{name: _change(change, room) for name, change in block.items()} for block in blocks]
    return (_LayerChanges * len(blocks))(*(_LayerChanges(**change) for change in changes))


def _num_bytes(change: Change) -> int:
    rank = _up_to(2, change.rank)
    down = _up_to(_LANES, len(change.ends) * rank) * _up_to(_INPUTS, change.down.shape[1])
    return (down + _up_to(_LANES, change.up.shape[0]) * rank) * change.up.element_size()


def _up_to(unit: int, count: int) -> int:
    return -(-count // unit) * unit


def _change(change: Change, room: _Room) -> _Change:
    down, up = change.down, change.up
    if change.rank % 2:
        # One more rank, which changes nothing: the kernels take two at a time.
        down = F.pad(down.unflatten(0, (-1, change.rank)), (0, 0, 0, 1)).flatten(0, 1)
        up = F.pad(up, (0, 1))
    down = F.pad(down, (0, -down.shape[1] % _INPUTS))
    return _Change(
        down=room.take(_in_steps(down)),
        up=room.take(_in_steps(up)),
        cols=down.shape[1],
        rank=up.shape[1],
        num_parts=len(change.ends),
        ends=(ctypes.c_int64 * _MAX_PARTS)(*change.ends),
        kind=KINDS[up.dtype],
    )


def _in_steps(matrix: Tensor) -> Tensor:
    """[rows, columns] as steps of sixteen rows and two columns, [rows / 16, columns / 2, step], for the kernels."""
    matrix = F.pad(matrix, (0, 0, 0, -matrix.shape[0] % _LANES))
    # Both numbers of a row are one word of bfloat16; in float32 all rows' first numbers precede their second ones.
    words = matrix if matrix.dtype == torch.float32 else matrix.view(torch.int32)
    return words.unflatten(0, (-1, _LANES)).transpose(1, 2).contiguous()
