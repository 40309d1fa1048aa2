"""Rotation, KV write and attention of one depth pass in one kernel, since a frame has many passes over few keys."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import DepthBlock
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.kernels.rope import rotated
from serve_app.model.rope import RotationTable


def depth_attention(qkv: Tensor, table: RotationTable, kv: Tensor, num_heads: int, block: DepthBlock) -> Tensor:
    """Write the keys and values of `qkv` [R * S, (N + 2 G) * D] at `block` of `kv` [2, R, G, P, D], then attend.

    Each of the S tokens of a row reads up to its own position. Returns [R * S, N * D].
    """
    _, num_rows, num_groups, num_positions, head_dim = kv.shape
    heads_per_group = num_heads // num_groups
    mixed = torch.empty(qkv.shape[0], num_heads * head_dim, device=qkv.device, dtype=qkv.dtype)
    launch(
        _depth_attend,
        (num_rows, num_groups),
        *(qkv, table.cos, table.sin, kv, mixed, block.start),
        *(head_dim**-0.5 * math.log2(math.e), *kv.stride()[:4]),
        HEAD_DIM=head_dim,
        HEADS_PER_GROUP=heads_per_group,
        NUM_GROUPS=num_groups,
        NUM_TOKENS=block.num_tokens,
        BLOCK_Q=padded(block.num_tokens * heads_per_group, 16),
        BLOCK_P=padded(num_positions, 16),
        BLOCK_D=padded(head_dim, 16),
        num_warps=4,
    )
    return mixed


# One compiled kernel must serve all passes, so no value of `start` may be specialised.
@triton.jit(do_not_specialize=["start"])
def _depth_attend(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    qkv,
    cos,
    sin,
    kv,
    mixed,
    start,
    softmax_scale_log2,
    which_stride,
    row_stride,
    group_stride,
    position_stride,
    HEAD_DIM: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    NUM_TOKENS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (row, group). It keeps the new keys and values in registers, because other threads could read them from
    memory before they are written there."""
    wait_for_others(DEPENDENT)
    row, group = tl.program_id(0), tl.program_id(1)
    heads_of_token: tl.constexpr = NUM_GROUPS * HEADS_PER_GROUP
    token_stride: tl.constexpr = (heads_of_token + 2 * NUM_GROUPS) * HEAD_DIM
    places, columns = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_D)
    is_column = columns < HEAD_DIM
    row_tokens = qkv + row * NUM_TOKENS * token_stride
    row_kv = kv + row.to(tl.int64) * row_stride + group * group_stride

    mask = (places < start)[:, None] & is_column[None, :]
    offsets = places[:, None] * position_stride + columns[None, :]
    k = tl.load(row_kv + offsets, mask=mask, other=0.0)
    v = tl.load(row_kv + which_stride + offsets, mask=mask, other=0.0)
    for token in tl.static_range(NUM_TOKENS):  # pyright: ignore[reportGeneralTypeIssues] - unrolled
        angles = (start + token) * HEAD_DIM + columns
        cos_at = tl.load(cos + angles, mask=is_column, other=0.0).to(tl.float32)
        sin_at = tl.load(sin + angles, mask=is_column, other=0.0).to(tl.float32)
        offset = token * token_stride + (heads_of_token + group) * HEAD_DIM
        k_new = rotated(row_tokens, offset, columns, is_column, cos_at, sin_at, HEAD_DIM).to(k.dtype)
        v_new = tl.load(row_tokens + offset + NUM_GROUPS * HEAD_DIM + columns, mask=is_column, other=0.0)
        target = row_kv + (start + token) * position_stride + columns
        tl.store(target, k_new, mask=is_column)
        tl.store(target + which_stride, v_new, mask=is_column)
        is_new = (places == start + token)[:, None]
        k = tl.where(is_new, k_new[None, :], k)
        v = tl.where(is_new, v_new[None, :], v)

    query_rows = tl.arange(0, BLOCK_Q)
    tokens, heads = query_rows // HEADS_PER_GROUP, group * HEADS_PER_GROUP + query_rows % HEADS_PER_GROUP
    is_query = (query_rows < NUM_TOKENS * HEADS_PER_GROUP)[:, None] & is_column[None, :]
    angles = (start + tokens)[:, None] * HEAD_DIM + columns[None, :]
    cos_at = tl.load(cos + angles, mask=is_query, other=0.0).to(tl.float32)
    sin_at = tl.load(sin + angles, mask=is_query, other=0.0).to(tl.float32)
    offset = (tokens * token_stride + heads * HEAD_DIM)[:, None]
    q = rotated(row_tokens, offset, columns[None, :], is_query, cos_at, sin_at, HEAD_DIM).to(k.dtype)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * softmax_scale_log2
    scores = tl.where(places[None, :] <= start + tokens[:, None], scores, float("-inf"))
    p = tl.exp2(scores - tl.max(scores, axis=1, keep_dims=True))
    l_i = tl.sum(p, axis=1, keep_dims=True)
    acc = tl.dot(p.to(v.dtype), v, input_precision="ieee") / l_i
    written = (row * NUM_TOKENS + tokens) * heads_of_token + heads
    out = mixed + written[:, None] * HEAD_DIM + columns[None, :]
    tl.store(out, acc.to(mixed.dtype.element_ty), mask=is_query)
