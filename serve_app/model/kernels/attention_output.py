"""Attention over few positions and its output projection, for few tokens in one kernel.

Each block of outputs computes attention anew, since a frame's positions are read and multiplied sooner than another
kernel starts. The projection is shared out by group: so keys and values are read once for all heads of a group, and the
next kernel adds up as many parts as there are groups. With more tokens, of which each reads the matrix anew, attention
has its own kernel.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Places, Residual
from serve_app.model.kernels.attention import decode_attention, nothing_read, read_block
from serve_app.model.kernels.dependent import fetch_ahead, wait_for_others
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.kernels.linear import add_linear, lines_of, matrix_parts, rows_of_weights
from serve_app.model.kernels.tiles import MAX_FEW_ROWS
from serve_app.model.matrix import Matrix

_WANTED_PROGRAMS = 128
"""Nearly one for each of an H100's 132 multiprocessors. More would compute attention more often."""


def add_attention_output(x: Tensor, queries: Tensor, kv: Tensor, out: Matrix, places: Places) -> Residual:
    """`x` [T, H] plus the product of attention with `out` [H, N * D], which may be added to it in place.

    `queries` [T, N, D] read `kv` [2, rows, G, P, D], each up to its own position.
    """
    if len(queries) > MAX_FEW_ROWS:
        return add_linear(x, decode_attention(queries, kv, places, num_readable=kv.shape[3]), out)
    return Residual(x, _parts(queries, kv, places, out))


def _parts(queries: Tensor, kv: Tensor, places: Places, out: Matrix) -> Tensor:
    """[G, T, H] in float32."""
    values, scales = matrix_parts(out)
    (num_tokens, num_heads, head_dim), (_, _, num_groups, num_positions, _) = queries.shape, kv.shape
    num_outputs = len(values)
    parts = torch.empty(num_groups, num_tokens, num_outputs, device=queries.device, dtype=torch.float32)
    pairs = num_groups * num_tokens
    wide_enough = [n for n in (64, 32) if pairs * triton.cdiv(num_outputs, n) >= _WANTED_PROGRAMS]
    block_outputs = wide_enough[0] if wide_enough else 16
    launch(
        _attend_and_project,
        (triton.cdiv(num_outputs, block_outputs), num_groups, num_tokens),
        *(queries, kv, *places, values, values if scales is None else scales, parts),
        *(head_dim**-0.5 * math.log2(math.e), *kv.stride()[:4], parts.stride(0)),
        HEAD_DIM=head_dim,
        HEADS_PER_GROUP=num_heads // num_groups,
        NUM_OUTPUTS=num_outputs,
        BLOCK_H=padded(num_heads // num_groups, 16),
        BLOCK_P=padded(num_positions, 16),
        BLOCK_D=padded(head_dim, 16),
        BLOCK_N=block_outputs,
        LINES=lines_of(num_heads // num_groups * head_dim, values),
        SCALED=scales is not None,
        num_warps=4,
    )
    return parts


@triton.jit
def _attend_and_project(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    queries,
    kv,
    rows,
    positions,
    weights,
    scales,
    parts,
    softmax_scale_log2,
    which_stride,
    row_stride,
    group_stride,
    position_stride,
    part_stride,
    HEAD_DIM: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    NUM_OUTPUTS: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    LINES: tl.constexpr,
    SCALED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (n, group, token): one block of outputs from the heads of a group."""
    group, token = tl.program_id(1), tl.program_id(2)
    heads, read, columns = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_D)
    is_column = columns < HEAD_DIM
    first_head = group * HEADS_PER_GROUP
    num_heads = tl.num_programs(1) * HEADS_PER_GROUP
    outputs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_output = outputs < NUM_OUTPUTS
    weight_rows = rows_of_weights(weights, outputs, NUM_OUTPUTS, num_heads * HEAD_DIM)
    fetch_ahead(weight_rows, first_head * HEAD_DIM, num_heads * HEAD_DIM, LINES, DEPENDENT)
    wait_for_others(DEPENDENT)
    q_places = (token * num_heads + first_head + heads)[:, None] * HEAD_DIM + columns[None, :]
    q = tl.load(queries + q_places, mask=(heads < HEADS_PER_GROUP)[:, None] & is_column[None, :], other=0.0)
    is_readable = read <= tl.load(positions + token)
    keys = kv + tl.load(rows + token).to(tl.int64) * row_stride + group * group_stride
    offsets = read[:, None] * position_stride + columns[None, :]
    mask = is_readable[:, None] & is_column[None, :]
    m_i, l_i, acc = nothing_read(BLOCK_H, BLOCK_D)
    m_i, l_i, acc = read_block(
        q, keys, keys + which_stride, offsets, mask, is_readable[None, :], m_i, l_i, acc, softmax_scale_log2
    )
    mixed = (acc / l_i[:, None]).to(q.dtype)

    # Row h of a product with the weights of head h is what this head adds. The other rows mean nothing.
    sums = tl.zeros((BLOCK_H, BLOCK_N), tl.float32)
    for head in tl.static_range(HEADS_PER_GROUP):  # pyright: ignore[reportGeneralTypeIssues] - unrolled
        head_weights = weight_rows + (first_head + head) * HEAD_DIM + columns[None, :]
        w = tl.load(head_weights, mask=is_column[None, :], other=0.0).to(q.dtype)
        product = tl.dot(mixed, tl.trans(w), input_precision="ieee")
        sums += tl.where((heads == head)[:, None], product, 0.0)
    added = tl.sum(sums, axis=0)
    if SCALED:
        added *= tl.load(scales + outputs, mask=is_output, other=0.0)
    tl.store(parts + group * part_stride + token * NUM_OUTPUTS + outputs, added, mask=is_output)
