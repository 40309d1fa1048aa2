"""Attention of one token a row over what its row's memory holds, and over nothing beyond.

Where rows and groups are too few to occupy the GPU, several programs share a row's positions, and a second kernel puts
together what they found (flash-decoding: Dao, Haziza, Massa, Sizov, 2023).
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.launch import launch, padded

_BLOCK_POSITIONS = 64
_WANTED_PROGRAMS = 264
"""Two for each multiprocessor of an H100."""


def decode_attention(queries: Tensor, kv: Tensor, positions: Tensor, num_readable: int) -> Tensor:
    """`queries` [R, N, D] over `kv` [2, rows, G, P, D] to [R, N * D]; a row reads up to its own position.

    A row at `num_readable` or beyond is nobody's: it reads nothing, and gets zeros.
    """
    num_rows, num_heads, head_dim = queries.shape
    num_groups = kv.shape[2]
    splits = num_splits(num_rows * num_groups, num_readable)
    mixed = torch.empty(num_rows, num_heads * head_dim, device=queries.device, dtype=queries.dtype)
    # [R, N, splits, D] sums of weighed values; [R, N, splits, 2] sum of weights, and what their exponents are above.
    sums, scales = mixed, mixed
    if splits > 1:
        sums = mixed.new_empty(num_rows, num_heads, splits, head_dim, dtype=torch.float32)
        scales = mixed.new_empty(num_rows, num_heads, splits, 2, dtype=torch.float32)
    launch(
        _attend,
        (num_rows, num_groups, splits),
        *(queries, kv, positions, mixed, sums, scales),
        *(num_readable, head_dim**-0.5 * math.log2(math.e), *kv.stride()[:4]),
        HEAD_DIM=head_dim,
        HEADS_PER_GROUP=num_heads // num_groups,
        SPLITS=splits,
        BLOCK_H=padded(num_heads // num_groups, 16),
        BLOCK_P=_BLOCK_POSITIONS,
        BLOCK_D=padded(head_dim, 16),
        num_warps=4,
        num_stages=3,
    )
    if splits > 1:
        blocks = {"BLOCK_S": padded(splits), "BLOCK_D": padded(head_dim, 16)}
        launch(_join, (num_rows * num_heads,), sums, scales, mixed, HEAD_DIM=head_dim, SPLITS=splits, **blocks)
    return mixed


def num_splits(num_pairs: int, num_readable: int) -> int:
    """In how many programs the positions of each of `num_pairs` rows and groups are read."""
    most = triton.cdiv(num_readable, _BLOCK_POSITIONS)
    return max(1, min(most, triton.cdiv(_WANTED_PROGRAMS, num_pairs)))


@triton.jit
def _attend(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    queries,
    kv,
    positions,
    mixed,
    sums,
    scales,
    num_readable,
    exponent_scale,
    which_stride,
    row_stride,
    group_stride,
    position_stride,
    HEAD_DIM: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Program (row, group, split). Exponents are of two, which the GPU computes faster."""
    row, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    heads, columns = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_D)
    is_column = columns < HEAD_DIM
    is_head = (heads < HEADS_PER_GROUP)[:, None] & is_column[None, :]
    head_ids = (row * tl.num_programs(1) + group) * HEADS_PER_GROUP + heads
    head_places = head_ids[:, None] * HEAD_DIM + columns[None, :]
    asked = tl.load(queries + head_places, mask=is_head, other=0.0)

    position = tl.load(positions + row).to(tl.int32)
    length = tl.where(position < num_readable, position + 1, 0)
    share = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK_P) * BLOCK_P
    first = split * share
    end = tl.minimum(first + share, length)
    keys = kv + row.to(tl.int64) * row_stride + group * group_stride
    values = keys + which_stride

    highest = tl.full((BLOCK_H,), float("-inf"), tl.float32)
    weights = tl.zeros((BLOCK_H,), tl.float32)
    found = tl.zeros((BLOCK_H, BLOCK_D), tl.float32)
    for start in range(first, end, BLOCK_P):
        places = start + tl.arange(0, BLOCK_P)
        readable = places < end
        offsets = places[:, None] * position_stride + columns[None, :]
        mask = readable[:, None] & is_column[None, :]
        block_keys = tl.load(keys + offsets, mask=mask, other=0.0)
        scores = tl.dot(asked, tl.trans(block_keys), input_precision="ieee") * exponent_scale
        scores = tl.where(readable[None, :], scores, float("-inf"))
        new_highest = tl.maximum(highest, tl.max(scores, axis=1))
        fading = tl.exp2(highest - new_highest)
        block_weights = tl.exp2(scores - new_highest[:, None])
        block_values = tl.load(values + offsets, mask=mask, other=0.0)
        weights = weights * fading + tl.sum(block_weights, axis=1)
        found = tl.dot(
            block_weights.to(block_values.dtype), block_values, found * fading[:, None], input_precision="ieee"
        )
        highest = new_highest

    if SPLITS == 1:
        found = found / tl.where(weights == 0, 1.0, weights)[:, None]
        tl.store(mixed + head_places, found.to(mixed.dtype.element_ty), mask=is_head)
    else:
        parts = head_ids * SPLITS + split
        tl.store(sums + parts[:, None] * HEAD_DIM + columns[None, :], found, mask=is_head)
        tl.store(scales + parts * 2, weights, mask=heads < HEADS_PER_GROUP)
        tl.store(scales + parts * 2 + 1, highest, mask=heads < HEADS_PER_GROUP)


@triton.jit
def _join(
    sums,
    scales,
    mixed,
    HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One program a row and head."""
    head = tl.program_id(0)
    splits, columns = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    is_split, is_column = splits < SPLITS, columns < HEAD_DIM
    parts = head * SPLITS + splits
    weights = tl.load(scales + parts * 2, mask=is_split, other=0.0)
    highest = tl.load(scales + parts * 2 + 1, mask=is_split, other=float("-inf"))
    # A part that read nothing has no weight, and must not make the difference of two infinities.
    fading = tl.where(weights > 0, tl.exp2(highest - tl.max(highest, axis=0)), 0.0)
    mask = is_split[:, None] & is_column[None, :]
    found = tl.load(sums + parts[:, None] * HEAD_DIM + columns[None, :], mask=mask, other=0.0)
    total = tl.sum(weights * fading, axis=0)
    joined = tl.sum(found * fading[:, None], axis=0) / tl.where(total == 0, 1.0, total)
    tl.store(mixed + head * HEAD_DIM + columns, joined.to(mixed.dtype.element_ty), mask=is_column)
