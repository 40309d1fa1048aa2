"""Products of few rows with large matrices. They stream weights once and convert them in registers.

With up to 64 rows, reading the matrix takes the time, so every multiprocessor must keep enough reads in flight. With
more rows arithmetic takes the time, and cuBLAS multiplies plain matrices.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Residual
from serve_app.model.kernels.dependent import fetch_ahead, wait_for_others
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.kernels.norm import add_parts
from serve_app.model.kernels.tiles import MAX_FEW_ROWS, MAX_SKINNY_ROWS, Tiles, choose_tiles
from serve_app.model.matrix import Matrix


def add_linear(x: Tensor, inputs: Tensor, matrix: Matrix) -> Residual:
    """`x` [T, N], whose rows may be strided, plus the product of `inputs` [T, K] with `matrix` [N, K].

    It is added to `x` in place. Where a matrix has too few outputs to occupy the GPU, several programs share its
    inputs, and the next kernel adds up the parts of few rows.
    """
    values, scales = matrix_parts(matrix)
    if scales is None and len(x) > MAX_SKINNY_ROWS:
        return Residual.of(x.addmm_(inputs, values.t()))
    tiles = choose_tiles(inputs, values, may_split=True)
    if tiles.splits == 1:
        _multiply(inputs, values, scales, x[None], tiles, adds=True)
        return Residual.of(x)
    parts = torch.empty(tiles.splits, *x.shape, device=x.device, dtype=torch.float32)
    _multiply(inputs, values, scales, parts, tiles, adds=False)
    residual = Residual(x, parts)
    return residual if len(x) <= MAX_FEW_ROWS else add_parts(residual)


def matrix_parts(matrix: Matrix) -> tuple[Tensor, Tensor | None]:
    return (matrix, None) if isinstance(matrix, Tensor) else (matrix.values, matrix.scales)


def lines_of(num_inputs: int, values: Tensor) -> int:
    """The cache lines of so many weights of a row, see `dependent.fetch_ahead`."""
    return padded(triton.cdiv(num_inputs * values.element_size(), 128))


def _multiply(x: Tensor, values: Tensor, scales: Tensor | None, out: Tensor, tiles: Tiles, adds: bool) -> None:
    """Into `out` [parts, T, N], or added to what it holds."""
    (_, num_rows, num_outputs), num_inputs = out.shape, values.shape[1]
    inputs_per_split = triton.cdiv(triton.cdiv(num_inputs, tiles.splits), tiles.inputs) * tiles.inputs
    launch(
        _product,
        (triton.cdiv(num_outputs, tiles.outputs), tiles.splits, triton.cdiv(num_rows, tiles.rows)),
        *(x, values, values if scales is None else scales, out),
        *(num_rows, x.stride(0), out.stride(0), out.stride(1)),
        NUM_OUTPUTS=num_outputs,
        NUM_INPUTS=num_inputs,
        INPUTS_PER_SPLIT=inputs_per_split,
        BLOCK_R=tiles.rows,
        BLOCK_N=tiles.outputs,
        BLOCK_K=tiles.inputs,
        LINES=lines_of(inputs_per_split, values),
        EVEN=inputs_per_split * tiles.splits == num_inputs,
        SCALED=scales is not None,
        ADDS=adds,
        num_warps=4,
        num_stages=4,
    )


@triton.jit
def rows_of_weights(weights, outputs, num_outputs, num_inputs):
    """[N, 1], where the weights of `outputs` begin.

    Outputs past the last one load its weights again, which is cheaper than a mask. They are never stored.
    """
    return weights + tl.minimum(outputs, num_outputs - 1)[:, None].to(tl.int64) * num_inputs


@triton.jit
def weights_at(weight_rows, inputs, NUM_INPUTS: tl.constexpr, EVEN: tl.constexpr):
    """One tile of weights. EVEN means that no split has inputs beyond the last."""
    if EVEN:
        return tl.load(weight_rows + inputs[None, :])
    else:
        return tl.load(weight_rows + inputs[None, :], mask=(inputs < NUM_INPUTS)[None, :], other=0.0)


@triton.jit
def scaled(sums, scales, outputs, is_output, SCALED: tl.constexpr):
    """[R, N] times the scales of `outputs` [N], if the weights have some."""
    if SCALED:
        sums *= tl.load(scales + outputs, mask=is_output, other=0.0)[None, :]
    return sums


@triton.jit
def _product(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    weights,
    scales,
    out,
    num_rows,
    x_stride,
    part_stride,
    out_stride,
    NUM_OUTPUTS: tl.constexpr,
    NUM_INPUTS: tl.constexpr,
    INPUTS_PER_SPLIT: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    LINES: tl.constexpr,
    EVEN: tl.constexpr,
    SCALED: tl.constexpr,
    ADDS: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (n, split, r): one block of outputs, over one part of the inputs, for one block of rows."""
    rows = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)
    outputs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(1)
    is_row, is_output = rows < num_rows, outputs < NUM_OUTPUTS
    weight_rows = rows_of_weights(weights, outputs, NUM_OUTPUTS, NUM_INPUTS)
    fetch_ahead(weight_rows, split * INPUTS_PER_SPLIT, NUM_INPUTS, LINES, DEPENDENT)
    wait_for_others(DEPENDENT)
    sums = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for start in range(0, INPUTS_PER_SPLIT, BLOCK_K):
        inputs = split * INPUTS_PER_SPLIT + start + tl.arange(0, BLOCK_K)
        mask = is_row[:, None] if EVEN else is_row[:, None] & (inputs < NUM_INPUTS)[None, :]
        values = tl.load(x + rows[:, None] * x_stride + inputs[None, :], mask=mask, other=0.0)
        part = weights_at(weight_rows, inputs, NUM_INPUTS, EVEN).to(x.dtype.element_ty)
        # "ieee" keeps float32 rows in float32. It has no effect on other types.
        sums = tl.dot(values, tl.trans(part), sums, input_precision="ieee")
    sums = scaled(sums, scales, outputs, is_output, SCALED)
    mask = is_row[:, None] & is_output[None, :]
    places = out + split * part_stride + rows[:, None] * out_stride + outputs[None, :]
    if ADDS:
        sums += tl.load(places, mask=mask, other=0.0).to(tl.float32)
    tl.store(places, sums.to(out.dtype.element_ty), mask=mask)
