"""Products of few rows with large matrices. They stream weights once and convert them in registers.

With up to 64 rows, reading the matrix takes the time, so every multiprocessor must keep enough reads in flight. With
more rows arithmetic takes the time, and cuBLAS multiplies plain matrices.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.dependent import fetch_ahead, wait_for_others
from serve_app.model.kernels.launch import launch, padded
from serve_app.model.kernels.tiles import MAX_SKINNY_ROWS, Tiles, choose_tiles
from serve_app.model.matrix import Matrix

_GATED_OUTPUTS = 1024
"""Of a program that gates. 16 bytes a thread are read at a time."""


def skinny_linear(x: Tensor, matrix: Matrix, out: Tensor | None = None) -> Tensor:
    """`x` [R, K] to [R, N]. Rows of `x` and `out` may be strided, and `out` may have another type."""
    values, scales = matrix_parts(matrix)
    # cuBLAS rounds to the type of `x`, and logits would lose what tells likely codes apart.
    if scales is None and x.shape[0] > MAX_SKINNY_ROWS and (out is None or out.dtype == x.dtype):
        product = F.linear(x, values)
        return product if out is None else out.copy_(product)
    if out is None:
        out = x.new_empty(x.shape[0], values.shape[0])
    tiles = choose_tiles(x, values)
    _multiply(x, values, scales, out[None], tiles)
    return out


def split_linear(x: Tensor, matrix: Matrix) -> Tensor:
    """`x` [R, K] to partial sums [parts, R, N] in float32, which the next kernel adds up.

    Where a matrix has too few outputs to occupy the GPU, several programs share its inputs.
    """
    values, scales = matrix_parts(matrix)
    if scales is None and x.shape[0] > MAX_SKINNY_ROWS:
        return F.linear(x, values)[None]
    tiles = choose_tiles(x, values, may_split=True)
    out = torch.empty(tiles.splits, x.shape[0], values.shape[0], device=x.device, dtype=torch.float32)
    _multiply(x, values, scales, out, tiles)
    return out


def swiglu(x: Tensor, gate_up: Matrix) -> Tensor:
    """silu(`x` @ gate.T) * (`x` @ up.T): [R, K] to [R, N], where `gate_up` [2 N, K] is one above the other."""
    values, scales = matrix_parts(gate_up)
    if scales is None and x.shape[0] > MAX_SKINNY_ROWS:
        return _gated(F.linear(x, values))
    tiles = choose_tiles(x, values, halves=2)
    out = x.new_empty(x.shape[0], values.shape[0] // 2)
    _multiply(x, values, scales, out[None], tiles, gated=True)
    return out


def _gated(both: Tensor) -> Tensor:
    """silu of the left half times the right: [R, 2 N] to [R, N], in one kernel instead of torch's three."""
    num_rows, num_outputs = both.shape[0], both.shape[1] // 2
    out = both.new_empty(num_rows, num_outputs)
    grid = (num_rows, triton.cdiv(num_outputs, _GATED_OUTPUTS))
    launch(_silu_mul, grid, both, out, NUM_OUTPUTS=num_outputs, BLOCK_N=_GATED_OUTPUTS, num_warps=4)
    return out


def matrix_parts(matrix: Matrix) -> tuple[Tensor, Tensor | None]:
    return (matrix, None) if isinstance(matrix, Tensor) else (matrix.values, matrix.scales)


def lines_of(num_inputs: int, values: Tensor) -> int:
    """The cache lines of so many weights of a row, see `dependent.fetch_ahead`."""
    return padded(triton.cdiv(num_inputs * values.element_size(), 128))


def _multiply(x: Tensor, values: Tensor, scales: Tensor | None, out: Tensor, tiles: Tiles, gated: bool = False) -> None:
    """Into `out` [parts, R, N]."""
    num_rows, num_outputs = out.shape[1:]
    num_inputs = values.shape[1]
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
        GATED=gated,
        num_warps=4,
        num_stages=4,
    )


@triton.jit
def _silu_mul(both, out, NUM_OUTPUTS: tl.constexpr, BLOCK_N: tl.constexpr, DEPENDENT: tl.constexpr):
    """Program (r, n): one block of outputs of one row."""
    wait_for_others(DEPENDENT)
    row, outputs = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_output = outputs < NUM_OUTPUTS
    gates = both + row * 2 * NUM_OUTPUTS + outputs
    gate = tl.load(gates, mask=is_output, other=0.0).to(tl.float32)
    up = tl.load(gates + NUM_OUTPUTS, mask=is_output, other=0.0).to(tl.float32)
    product = gate / (1 + tl.exp(-gate)) * up
    tl.store(out + row * NUM_OUTPUTS + outputs, product.to(out.dtype.element_ty), mask=is_output)


@triton.jit
def weights_at(weight_rows, inputs, NUM_INPUTS: tl.constexpr, EVEN: tl.constexpr):
    """One tile of weights. EVEN means that no split has inputs beyond the last."""
    if EVEN:
        return tl.load(weight_rows + inputs[None, :])
    else:
        return tl.load(weight_rows + inputs[None, :], mask=(inputs < NUM_INPUTS)[None, :], other=0.0)


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
    GATED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (n, split, r): one block of outputs, over one part of the inputs, for one block of rows."""
    rows = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)
    outputs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(1)
    is_row, is_output = rows < num_rows, outputs < NUM_OUTPUTS
    x_rows = x + rows[:, None] * x_stride
    # Outputs past the last one load its weights again, which is cheaper than a mask. They are never stored.
    weight_rows = weights + tl.minimum(outputs, NUM_OUTPUTS - 1)[:, None].to(tl.int64) * NUM_INPUTS
    fetch_ahead(weight_rows, split * INPUTS_PER_SPLIT, NUM_INPUTS, LINES, DEPENDENT)
    if GATED:
        fetch_ahead(weight_rows + NUM_OUTPUTS * NUM_INPUTS, 0, NUM_INPUTS, LINES, DEPENDENT)
    wait_for_others(DEPENDENT)
    sums = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    up_sums = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for start in range(0, INPUTS_PER_SPLIT, BLOCK_K):
        inputs = split * INPUTS_PER_SPLIT + start + tl.arange(0, BLOCK_K)
        mask = is_row[:, None] if EVEN else is_row[:, None] & (inputs < NUM_INPUTS)[None, :]
        values = tl.load(x_rows + inputs[None, :], mask=mask, other=0.0)
        part = weights_at(weight_rows, inputs, NUM_INPUTS, EVEN).to(x.dtype.element_ty)
        # "ieee" keeps float32 rows in float32. It has no effect on other types.
        sums = tl.dot(values, tl.trans(part), sums, input_precision="ieee")
        if GATED:
            up_part = weights_at(weight_rows + NUM_OUTPUTS * NUM_INPUTS, inputs, NUM_INPUTS, EVEN)
            up_sums = tl.dot(values, tl.trans(up_part.to(x.dtype.element_ty)), up_sums, input_precision="ieee")
    if SCALED:
        sums *= tl.load(scales + outputs, mask=is_output, other=0.0)[None, :]
    if GATED:
        if SCALED:
            up_sums *= tl.load(scales + NUM_OUTPUTS + outputs, mask=is_output, other=0.0)[None, :]
        sums = sums / (1 + tl.exp(-sums)) * up_sums
    places = out + split * part_stride + rows[:, None] * out_stride + outputs[None, :]
    tl.store(places, sums.to(out.dtype.element_ty), mask=is_row[:, None] & is_output[None, :])
