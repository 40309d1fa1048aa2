"""Rotation, memory and attention of one depth pass in a single kernel: there are few keys, and many passes."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import DepthBlock
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.kernels.rope import rotated
from serve_app.model.rope import RotationTable


def depth_attention(qkv: Tensor, table: RotationTable, kv: Tensor, num_heads: int, block: DepthBlock) -> Tensor:
    """`qkv` [R * S, (N + 2 G) * D] of S tokens a row, at `block` of `kv` [2, R, G, P, D]: keys and values are written
    there, and each token reads up to its own position: [R * S, N * D]."""
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


# One compiled kernel must serve all passes, so no value of `start` is special.
@triton.jit(do_not_specialize=["start"])
def _depth_attend(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    qkv,
    cos,
    sin,
    kv,
    mixed,
    start,
    exponent_scale,
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
):
    """Program (row, group). New keys and values stay in registers: what one thread writes to memory, another could read
    too early."""
    row, group = tl.program_id(0), tl.program_id(1)
    heads_of_token: tl.constexpr = NUM_GROUPS * HEADS_PER_GROUP
    token_stride: tl.constexpr = (heads_of_token + 2 * NUM_GROUPS) * HEAD_DIM
    places, columns = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_D)
    is_column = columns < HEAD_DIM
    row_tokens = qkv + row * NUM_TOKENS * token_stride
    row_memory = kv + row.to(tl.int64) * row_stride + group * group_stride

    mask = (places < start)[:, None] & is_column[None, :]
    offsets = places[:, None] * position_stride + columns[None, :]
    keys = tl.load(row_memory + offsets, mask=mask, other=0.0)
    values = tl.load(row_memory + which_stride + offsets, mask=mask, other=0.0)
    for token in tl.static_range(NUM_TOKENS):  # pyright: ignore[reportGeneralTypeIssues] - unrolled
        turn = (start + token) * HEAD_DIM + columns
        turn_cos = tl.load(cos + turn, mask=is_column, other=0.0).to(tl.float32)
        turn_sin = tl.load(sin + turn, mask=is_column, other=0.0).to(tl.float32)
        offset = token * token_stride + (heads_of_token + group) * HEAD_DIM
        key = rotated(row_tokens, offset, columns, is_column, turn_cos, turn_sin, HEAD_DIM).to(keys.dtype)
        value = tl.load(row_tokens + offset + NUM_GROUPS * HEAD_DIM + columns, mask=is_column, other=0.0)
        target = row_memory + (start + token) * position_stride + columns
        tl.store(target, key, mask=is_column)
        tl.store(target + which_stride, value, mask=is_column)
        is_new = (places == start + token)[:, None]
        keys = tl.where(is_new, key[None, :], keys)
        values = tl.where(is_new, value[None, :], values)

    asking = tl.arange(0, BLOCK_Q)
    tokens, heads = asking // HEADS_PER_GROUP, group * HEADS_PER_GROUP + asking % HEADS_PER_GROUP
    is_asking = (asking < NUM_TOKENS * HEADS_PER_GROUP)[:, None] & is_column[None, :]
    turn = (start + tokens)[:, None] * HEAD_DIM + columns[None, :]
    turn_cos = tl.load(cos + turn, mask=is_asking, other=0.0).to(tl.float32)
    turn_sin = tl.load(sin + turn, mask=is_asking, other=0.0).to(tl.float32)
    offset = (tokens * token_stride + heads * HEAD_DIM)[:, None]
    queries = rotated(row_tokens, offset, columns[None, :], is_asking, turn_cos, turn_sin, HEAD_DIM).to(keys.dtype)
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * exponent_scale
    scores = tl.where(places[None, :] <= start + tokens[:, None], scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, axis=1, keep_dims=True))
    total = tl.sum(weights, axis=1, keep_dims=True)
    found = tl.dot(weights.to(values.dtype), values, input_precision="ieee") / total
    written = (row * NUM_TOKENS + tokens) * heads_of_token + heads
    out = mixed + written[:, None] * HEAD_DIM + columns[None, :]
    tl.store(out, found.to(mixed.dtype.element_ty), mask=is_asking)
