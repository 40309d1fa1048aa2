"""Attention of the tokens of a prefill pass, which belong to several prompts of any lengths, in one kernel.

A program takes consecutive tokens. Mostly they are of one row. Where they are not, it goes through the rows one after
the other, and each token takes part in the turn of its own row. So the tokens' places say all, and no table of ranges
is needed. Names are those of `attention.py`.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Places
from serve_app.model.kernels.attention import nothing_read, read_block
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded

_BLOCK_QUERIES = 64
"""Of tokens and heads together: what Hopper's tensor cores take at once."""
_BLOCK_POSITIONS = 64
_NO_ROW = tl.constexpr(0x7FFFFFFF)


def prefill_attention(queries: Tensor, kv: Tensor, places: Places) -> Tensor:
    """`queries` [T, N, D] over `kv` [2, rows, G, P, D] to [T, N * D]. A token reads its row up to its own position.

    A token at position P - 1 is padding: it reads nothing and gets zeros.
    """
    num_tokens, num_heads, head_dim = queries.shape
    _, _, num_groups, num_positions, _ = kv.shape
    block_heads = padded(num_heads // num_groups)
    block_tokens = max(1, _BLOCK_QUERIES // block_heads)
    mixed = torch.empty(num_tokens, num_heads * head_dim, device=queries.device, dtype=queries.dtype)
    launch(
        _attend_to_prompts,
        (triton.cdiv(num_tokens, block_tokens), num_groups),
        *(queries, kv, *places, mixed),
        *(num_tokens, num_positions - 1, head_dim**-0.5 * math.log2(math.e), *kv.stride()[:4]),
        HEAD_DIM=head_dim,
        HEADS_PER_GROUP=num_heads // num_groups,
        BLOCK_T=block_tokens,
        BLOCK_H=block_heads,
        BLOCK_P=_BLOCK_POSITIONS,
        BLOCK_D=padded(head_dim, 16),
        num_warps=4,
        num_stages=3,
    )
    return mixed


@triton.jit
def _attend_to_prompts(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    queries,
    kv,
    rows,
    positions,
    mixed,
    num_tokens,
    num_readable,
    softmax_scale_log2,
    which_stride,
    row_stride,
    group_stride,
    position_stride,
    HEAD_DIM: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (tokens, group)."""
    wait_for_others(DEPENDENT)
    group = tl.program_id(1)
    queries_of_block, columns = tl.arange(0, BLOCK_T * BLOCK_H), tl.arange(0, BLOCK_D)
    tokens, heads = tl.program_id(0) * BLOCK_T + queries_of_block // BLOCK_H, queries_of_block % BLOCK_H
    is_query = (tokens < num_tokens) & (heads < HEADS_PER_GROUP)
    is_column = columns < HEAD_DIM
    head_ids = (tokens * tl.num_programs(1) + group) * HEADS_PER_GROUP + heads
    head_places = head_ids[:, None] * HEAD_DIM + columns[None, :]
    is_head = is_query[:, None] & is_column[None, :]
    q = tl.load(queries + head_places, mask=is_head, other=0.0)
    row_ids = tl.load(rows + tokens, mask=is_query, other=_NO_ROW).to(tl.int32)
    lengths = tl.load(positions + tokens, mask=is_query, other=-1).to(tl.int32) + 1
    lengths = tl.where(lengths <= num_readable, lengths, 0)

    m_i, l_i, acc = nothing_read(BLOCK_T * BLOCK_H, BLOCK_D)
    row = tl.cast(tl.min(row_ids, axis=0), tl.int32)
    while row < _NO_ROW:
        lengths_here = tl.where(row_ids == row, lengths, 0)
        end = tl.cast(tl.max(lengths_here, axis=0), tl.int32)
        keys = kv + row.to(tl.int64) * row_stride + group * group_stride
        for start in range(0, end, BLOCK_P):
            read = start + tl.arange(0, BLOCK_P)
            offsets = read[:, None] * position_stride + columns[None, :]
            mask = (read < end)[:, None] & is_column[None, :]
            is_read = read[None, :] < lengths_here[:, None]
            m_i, l_i, acc = read_block(
                q, keys, keys + which_stride, offsets, mask, is_read, m_i, l_i, acc, softmax_scale_log2
            )
        row = tl.cast(tl.min(tl.where(row_ids > row, row_ids, _NO_ROW), axis=0), tl.int32)
    acc = acc / tl.where(l_i == 0, 1.0, l_i)[:, None]
    tl.store(mixed + head_places, acc.to(mixed.dtype.element_ty), mask=is_head)
