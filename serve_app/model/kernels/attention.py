"""Attention of single tokens over their rows' KV memory, up to the token's own position.

Where rows and groups are too few to occupy the GPU, several programs share a row's positions, and a second kernel
combines their results (flash-decoding: Dao, Haziza, Massa, Sizov, 2023). Inside the kernels, names are those of
FlashAttention: m_i is the largest score so far, l_i the sum of the weights exp2(score - m_i), acc the weighted sum of
values. alpha = exp2(m_i - m_new) rescales l_i and acc when m_i grows.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Places
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded

_BLOCK_POSITIONS = 64
_WANTED_PROGRAMS = 264
"""Two for each multiprocessor of an H100."""


def decode_attention(queries: Tensor, kv: Tensor, places: Places, num_readable: int) -> Tensor:
    """`queries` [T, N, D] over `kv` [2, rows, G, P, D] to [T, N * D]. A token reads its row up to its own position.

    A token at `num_readable` or beyond is padding: it reads nothing and gets zeros.
    """
    num_tokens, num_heads, head_dim = queries.shape
    num_groups = kv.shape[2]
    splits = num_splits(num_tokens * num_groups, num_readable)
    mixed = torch.empty(num_tokens, num_heads * head_dim, device=queries.device, dtype=queries.dtype)
    # acc of each split is [T, N, splits, D]; its l_i and m_i are [T, N, splits, 2].
    partial_acc, partial_l_m = mixed, mixed
    if splits > 1:
        partial_acc = mixed.new_empty(num_tokens, num_heads, splits, head_dim, dtype=torch.float32)
        partial_l_m = mixed.new_empty(num_tokens, num_heads, splits, 2, dtype=torch.float32)
    launch(
        _attend,
        (num_tokens, num_groups, splits),
        *(queries, kv, *places, mixed, partial_acc, partial_l_m),
        *(num_readable, head_dim**-0.5 * math.log2(math.e), *kv.stride()[:4]),
        HEAD_DIM=head_dim,
        HEADS_PER_GROUP=num_heads // num_groups,
        SPLITS=splits,
        BLOCK_H=padded(num_heads // num_groups, 16),
        BLOCK_P=min(padded(num_readable, 16), _BLOCK_POSITIONS),
        BLOCK_D=padded(head_dim, 16),
        num_warps=4,
        num_stages=3,
    )
    if splits > 1:
        blocks = {"BLOCK_S": padded(splits), "BLOCK_D": padded(head_dim, 16)}
        launch(
            _join,
            (num_tokens * num_heads,),
            partial_acc,
            partial_l_m,
            mixed,
            HEAD_DIM=head_dim,
            SPLITS=splits,
            **blocks,
        )
    return mixed


def num_splits(num_pairs: int, num_readable: int) -> int:
    """How many programs share the positions of each of `num_pairs` pairs of token and group."""
    most = triton.cdiv(num_readable, _BLOCK_POSITIONS)
    return max(1, min(most, triton.cdiv(_WANTED_PROGRAMS, num_pairs)))


@triton.jit
def nothing_read(QUERIES: tl.constexpr, BLOCK_D: tl.constexpr):
    """m_i, l_i and acc at the start."""
    m_i = tl.full((QUERIES,), float("-inf"), tl.float32)
    return m_i, tl.zeros((QUERIES,), tl.float32), tl.zeros((QUERIES, BLOCK_D), tl.float32)


@triton.jit
def read_block(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    q, keys, values, offsets, mask, is_read, m_i, l_i, acc, softmax_scale_log2
):
    """m_i, l_i and acc after a block of positions, at `offsets` [P, D]. `is_read` [queries or 1, P].

    Uses exp2, which the GPU computes faster than exp.
    """
    k = tl.load(keys + offsets, mask=mask, other=0.0)
    v = tl.load(values + offsets, mask=mask, other=0.0)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * softmax_scale_log2
    scores = tl.where(is_read, scores, float("-inf"))
    m_new = tl.maximum(m_i, tl.max(scores, axis=1))
    # A query that has read nothing has the score -inf, and -inf minus -inf would make it NaN.
    base = tl.where(m_new == float("-inf"), 0.0, m_new)
    alpha = tl.exp2(m_i - base)
    p = tl.exp2(scores - base[:, None])
    l_i = l_i * alpha + tl.sum(p, axis=1)
    return m_new, l_i, tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision="ieee")


@triton.jit
def _attend(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    queries,
    kv,
    rows,
    positions,
    mixed,
    partial_acc,
    partial_l_m,
    num_readable,
    softmax_scale_log2,
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
    DEPENDENT: tl.constexpr,
):
    """Program (token, group, split)."""
    wait_for_others(DEPENDENT)
    token, group, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    heads, columns = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_D)
    is_column = columns < HEAD_DIM
    is_head = (heads < HEADS_PER_GROUP)[:, None] & is_column[None, :]
    head_ids = (token * tl.num_programs(1) + group) * HEADS_PER_GROUP + heads
    head_places = head_ids[:, None] * HEAD_DIM + columns[None, :]
    q = tl.load(queries + head_places, mask=is_head, other=0.0)

    position = tl.load(positions + token).to(tl.int32)
    length = tl.where(position < num_readable, position + 1, 0)
    share = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK_P) * BLOCK_P
    first = split * share
    end = tl.minimum(first + share, length)
    keys = kv + tl.load(rows + token).to(tl.int64) * row_stride + group * group_stride

    m_i, l_i, acc = nothing_read(BLOCK_H, BLOCK_D)
    for start in range(first, end, BLOCK_P):
        read = start + tl.arange(0, BLOCK_P)
        is_readable = read < end
        offsets = read[:, None] * position_stride + columns[None, :]
        mask = is_readable[:, None] & is_column[None, :]
        m_i, l_i, acc = read_block(
            q, keys, keys + which_stride, offsets, mask, is_readable[None, :], m_i, l_i, acc, softmax_scale_log2
        )

    if SPLITS == 1:
        acc = acc / tl.where(l_i == 0, 1.0, l_i)[:, None]
        tl.store(mixed + head_places, acc.to(mixed.dtype.element_ty), mask=is_head)
    else:
        parts = head_ids * SPLITS + split
        tl.store(partial_acc + parts[:, None] * HEAD_DIM + columns[None, :], acc, mask=is_head)
        tl.store(partial_l_m + parts * 2, l_i, mask=heads < HEADS_PER_GROUP)
        tl.store(partial_l_m + parts * 2 + 1, m_i, mask=heads < HEADS_PER_GROUP)


@triton.jit
def _join(
    partial_acc,
    partial_l_m,
    mixed,
    HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """One program a row and head."""
    wait_for_others(DEPENDENT)
    head = tl.program_id(0)
    splits, columns = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    is_split, is_column = splits < SPLITS, columns < HEAD_DIM
    parts = head * SPLITS + splits
    l_i = tl.load(partial_l_m + parts * 2, mask=is_split, other=0.0)
    m_i = tl.load(partial_l_m + parts * 2 + 1, mask=is_split, other=float("-inf"))
    # A split that read nothing has l_i 0 and m_i -inf. Without the condition, -inf minus -inf would make it NaN.
    alpha = tl.where(l_i > 0, tl.exp2(m_i - tl.max(m_i, axis=0)), 0.0)
    mask = is_split[:, None] & is_column[None, :]
    acc = tl.load(partial_acc + parts[:, None] * HEAD_DIM + columns[None, :], mask=mask, other=0.0)
    total = tl.sum(l_i * alpha, axis=0)
    combined = tl.sum(acc * alpha[:, None], axis=0) / tl.where(total == 0, 1.0, total)
    tl.store(mixed + head * HEAD_DIM + columns, combined.to(mixed.dtype.element_ty), mask=is_column)
