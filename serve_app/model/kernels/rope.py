"""Rotation of new queries and keys, and the write of keys and values, in one pass over a fused projection."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Places
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.rope import RotationTable


def rope_and_write(qkv: Tensor, table: RotationTable, places: Places, kv: Tensor, num_heads: int) -> Tensor:
    """Write the keys and values of `qkv` [T, (N + 2 G) * D] to their places in `kv` [2, rows, G, P, D].

    Keys are rotated first. Returns the rotated queries, [T, N, D].
    """
    num_tokens, (_, _, num_groups, _, head_dim) = qkv.shape[0], kv.shape
    queries = torch.empty(num_tokens, num_heads, head_dim, device=qkv.device, dtype=qkv.dtype)
    launch(
        _rope_and_write,
        (num_tokens, num_heads + 2 * num_groups),
        *(qkv, table.cos, table.sin, *places, kv, queries),
        *(qkv.stride(0), *kv.stride()[:4]),
        NUM_HEADS=num_heads,
        NUM_GROUPS=num_groups,
        HEAD_DIM=head_dim,
        BLOCK_D=padded(head_dim),
        num_warps=1,
    )
    return queries


@triton.jit
def rotated(heads, offsets, columns, inside, cos, sin, HEAD_DIM: tl.constexpr):
    """The vectors at `heads` + `offsets`, rotated, in float32. `columns` index their last axis, as cos and sin do.

    The other half of each vector is loaded again, because another thread holds it.
    """
    half = HEAD_DIM // 2
    swapped = tl.where(columns < half, columns + half, columns - half)
    values = tl.load(heads + offsets + columns, mask=inside, other=0.0).to(tl.float32)
    others = tl.load(heads + offsets + swapped, mask=inside, other=0.0).to(tl.float32)
    return values * cos + others * sin


@triton.jit
def _rope_and_write(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    qkv,
    cos,
    sin,
    rows,
    positions,
    kv,
    queries,
    qkv_stride,
    which_stride,
    row_stride,
    group_stride,
    position_stride,
    NUM_HEADS: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_others(DEPENDENT)
    token, head = tl.program_id(0), tl.program_id(1)
    columns = tl.arange(0, BLOCK_D)
    inside = columns < HEAD_DIM
    position = tl.load(positions + token).to(tl.int64)
    offset = token * qkv_stride + head * HEAD_DIM
    at_position = kv + tl.load(rows + token).to(tl.int64) * row_stride + position * position_stride
    if head < NUM_HEADS + NUM_GROUPS:
        cos_at = tl.load(cos + position * HEAD_DIM + columns, mask=inside, other=0.0).to(tl.float32)
        sin_at = tl.load(sin + position * HEAD_DIM + columns, mask=inside, other=0.0).to(tl.float32)
        head_rotated = rotated(qkv, offset, columns, inside, cos_at, sin_at, HEAD_DIM).to(qkv.dtype.element_ty)
        if head < NUM_HEADS:
            tl.store(queries + (token * NUM_HEADS + head) * HEAD_DIM + columns, head_rotated, mask=inside)
        else:
            tl.store(at_position + (head - NUM_HEADS) * group_stride + columns, head_rotated, mask=inside)
    else:
        value = tl.load(qkv + offset + columns, mask=inside, other=0.0)
        group = head - NUM_HEADS - NUM_GROUPS
        tl.store(at_position + which_stride + group * group_stride + columns, value, mask=inside)
