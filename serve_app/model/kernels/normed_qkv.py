"""Norm, projection, rotation, and the write of keys and values, in one kernel."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Places, Residual
from serve_app.model.kernels.launch import launch
from serve_app.model.kernels.linear import lines_of, matrix_parts, scaled
from serve_app.model.kernels.norm import empty_sum
from serve_app.model.kernels.normed import products_of_norm
from serve_app.model.kernels.tiles import choose_tiles
from serve_app.model.matrix import Matrix
from serve_app.model.rope import RotationTable

_NO_UP, _KEEPS_SUM = tl.constexpr(0), tl.constexpr(True)
"""For `products_of_norm`: there is one matrix, and the residual's sum is written."""


def normed_qkv(
    residual: Residual, norm: Norm, qkv: Matrix, table: RotationTable, places: Places, kv: Tensor
) -> tuple[Tensor, Tensor]:
    """The residual's sum [T, H], and the rotated queries of its norm, [T, N, D].

    `qkv` [(N + 2 G) * D, H]. Writes keys and values to their places in `kv` [2, rows, G, P, D].
    """
    values, scales = matrix_parts(qkv)
    (x, parts), num_tokens = residual, len(residual.x)
    (num_outputs, num_inputs), (_, _, num_groups, _, head_dim) = values.shape, kv.shape
    num_heads = num_outputs // head_dim - 2 * num_groups
    tiles = choose_tiles(x, values, num_parts=len(parts))
    summed = empty_sum(residual)
    queries = torch.empty(num_tokens, num_heads, head_dim, device=x.device, dtype=x.dtype)
    launch(
        _normed_qkv,
        (triton.cdiv(num_outputs, tiles.outputs), triton.cdiv(num_tokens, tiles.rows)),
        *(x, parts, summed, norm.gains, values, values if scales is None else scales),
        *(table.cos, table.sin, *places, kv, queries),
        *(num_tokens, x.stride(0), parts.stride(0), parts.stride(1), *kv.stride()[:4], norm.eps),
        NUM_HEADS=num_heads,
        NUM_GROUPS=num_groups,
        HEAD_DIM=head_dim,
        NUM_INPUTS=num_inputs,
        NUM_PARTS=len(parts),
        BLOCK_R=tiles.rows,
        BLOCK_N=tiles.outputs,
        BLOCK_K=tiles.inputs,
        LINES=lines_of(num_inputs, values),
        EVEN=num_inputs % tiles.inputs == 0,
        SCALED=scales is not None,
        num_warps=4,
        num_stages=4,
    )
    return summed, queries


@triton.jit
def _pair_by_pair(numbers, HEAD_DIM: tl.constexpr):
    """Outputs in the order in which the rotation turns them: of each head d, then d + D / 2."""
    within = numbers % HEAD_DIM
    return numbers - within + within // 2 + within % 2 * (HEAD_DIM // 2)


@triton.jit
def _turned(first, second, cos, sin, angles, is_rotated, HALF: tl.constexpr):
    """The pairs `first` and `second` [R, N], rotated where `is_rotated`."""
    cos_at = tl.load(cos + angles, mask=is_rotated, other=1.0).to(tl.float32)
    # The table's second half has the sign of the second of a pair.
    sin_at = tl.load(sin + angles + HALF, mask=is_rotated, other=0.0).to(tl.float32)
    return first * cos_at - second * sin_at, second * cos_at + first * sin_at


@triton.jit
def _store_pair(first, second, places, mask, HALF: tl.constexpr):
    tl.store(places, first.to(places.dtype.element_ty), mask=mask)
    tl.store(places + HALF, second.to(places.dtype.element_ty), mask=mask)


@triton.jit
def _normed_qkv(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    parts,
    summed,
    gains,
    weights,
    scales,
    cos,
    sin,
    kv_rows,
    positions,
    kv,
    queries,
    num_tokens,
    x_stride,
    part_stride,
    part_row_stride,
    which_stride,
    row_stride,
    group_stride,
    position_stride,
    eps,
    NUM_HEADS: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_INPUTS: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    LINES: tl.constexpr,
    EVEN: tl.constexpr,
    SCALED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (n, t): one block of outputs, which are pairs, for one block of tokens."""
    half: tl.constexpr = HEAD_DIM // 2
    num_outputs: tl.constexpr = (NUM_HEADS + 2 * NUM_GROUPS) * HEAD_DIM
    tokens = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    is_token = tokens < num_tokens
    numbers = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    outputs = _pair_by_pair(tl.minimum(numbers, num_outputs - 1), HEAD_DIM)
    weight_rows = weights + outputs[:, None].to(tl.int64) * NUM_INPUTS
    x_rows, part_rows = x + tokens[:, None] * x_stride, parts + tokens[:, None] * part_row_stride
    sums, _ = products_of_norm(
        *(x_rows, part_rows, summed + tokens[:, None] * NUM_INPUTS, gains, weight_rows, is_token, part_stride, eps),
        *(NUM_INPUTS, NUM_PARTS, _NO_UP, BLOCK_K, EVEN, _KEEPS_SUM, LINES, DEPENDENT),
    )
    sums = scaled(sums, scales, outputs, numbers < num_outputs, SCALED)
    # Rounded as a projection of its own would be.
    sums = sums.to(x.dtype.element_ty).to(tl.float32)
    first, second = tl.split(tl.reshape(sums, (BLOCK_R, BLOCK_N // 2, 2)))

    pairs = tl.program_id(0) * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2)
    heads, columns = pairs // half, pairs % half
    position = tl.load(positions + tokens, mask=is_token, other=0).to(tl.int64)
    is_rotated = (heads < NUM_HEADS + NUM_GROUPS)[None, :] & is_token[:, None]
    angles = position[:, None] * HEAD_DIM + columns[None, :]
    first, second = _turned(first, second, cos, sin, angles, is_rotated, half)
    query_places = queries + (tokens[:, None] * NUM_HEADS + heads[None, :]) * HEAD_DIM + columns[None, :]
    _store_pair(first, second, query_places, (heads < NUM_HEADS)[None, :] & is_token[:, None], half)

    # Keys of all groups, then values of all groups.
    kv_heads = tl.maximum(heads - NUM_HEADS, 0)
    is_kv = ((heads >= NUM_HEADS) & (kv_heads < 2 * NUM_GROUPS))[None, :] & is_token[:, None]
    row = tl.load(kv_rows + tokens, mask=is_token, other=0).to(tl.int64)
    token_places = kv + (row * row_stride + position * position_stride)[:, None]
    head_places = kv_heads // NUM_GROUPS * which_stride + kv_heads % NUM_GROUPS * group_stride + columns
    _store_pair(first, second, token_places + head_places[None, :], is_kv, half)
