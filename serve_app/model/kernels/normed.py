"""Products of a norm: the residual is summed and normed while the matrix streams, so that no kernel does it before.

RMSNorm multiplies a row by one number, which follows from the row's squares. So the product is made of the row times
the gains, and multiplied by that number at its end, when all squares are summed. Every program sums them anew, over
rows that it reads in any case.
"""

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Residual
from serve_app.model.kernels.dependent import fetch_ahead, wait_for_others
from serve_app.model.kernels.launch import launch
from serve_app.model.kernels.linear import lines_of, matrix_parts, rows_of_weights, scaled, weights_at
from serve_app.model.kernels.norm import add_parts, empty_sum, rms_norm, summed_at
from serve_app.model.kernels.tiles import MAX_SKINNY_ROWS, choose_tiles
from serve_app.model.matrix import Matrix

_GATED_OUTPUTS = 1024
"""Of a program that gates. 16 bytes a thread are read at a time."""


def normed_linear(residual: Residual, norm: Norm, matrix: Matrix, out: Tensor) -> None:
    """The product of the norm with `matrix` [N, H], into `out` [T, N], of any type. Its rows may be strided."""
    _multiply(residual, norm, matrix, out, None)


def normed_swiglu(residual: Residual, norm: Norm, gate_up: Matrix) -> tuple[Tensor, Tensor]:
    """The residual's sum [T, H], and silu(n @ gate.T) * (n @ up.T) of its norm n: [T, N].

    `gate_up` [2 N, H] is one above the other.
    """
    values, scales = matrix_parts(gate_up)
    if scales is None and len(residual.x) > MAX_SKINNY_ROWS:
        x = add_parts(residual).x if len(residual.parts) else residual.x
        return x, _gated(F.linear(rms_norm(x, norm), values))
    summed, out = empty_sum(residual), residual.x.new_empty(len(residual.x), len(values) // 2)
    _multiply(residual, norm, gate_up, out, summed)
    return summed, out


def _gated(both: Tensor) -> Tensor:
    """silu of the left half times the right: [T, 2 N] to [T, N], in one kernel instead of torch's three."""
    num_rows, num_outputs = both.shape[0], both.shape[1] // 2
    out = both.new_empty(num_rows, num_outputs)
    grid = (num_rows, triton.cdiv(num_outputs, _GATED_OUTPUTS))
    launch(_silu_mul, grid, both, out, NUM_OUTPUTS=num_outputs, BLOCK_N=_GATED_OUTPUTS, num_warps=4)
    return out


def _multiply(residual: Residual, norm: Norm, matrix: Matrix, out: Tensor, summed: Tensor | None) -> None:
    values, scales = matrix_parts(matrix)
    (num_rows, num_outputs), (x, parts), num_inputs = out.shape, residual, values.shape[1]
    halves = len(values) // num_outputs
    tiles = choose_tiles(x, values, halves=halves, num_parts=len(parts))
    launch(
        _normed_product,
        (triton.cdiv(num_outputs, tiles.outputs), triton.cdiv(num_rows, tiles.rows)),
        *(x, parts, x if summed is None else summed, norm.gains),
        *(values, values if scales is None else scales, out),
        *(num_rows, x.stride(0), parts.stride(0), parts.stride(1), out.stride(0), norm.eps),
        NUM_OUTPUTS=num_outputs,
        NUM_INPUTS=num_inputs,
        NUM_PARTS=len(parts),
        BLOCK_R=tiles.rows,
        BLOCK_N=tiles.outputs,
        BLOCK_K=tiles.inputs,
        LINES=lines_of(num_inputs, values),
        EVEN=num_inputs % tiles.inputs == 0,
        SCALED=scales is not None,
        KEEPS_SUM=summed is not None,
        GATED=halves == 2,
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
def products_of_norm(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x_rows,
    part_rows,
    sum_rows,
    gains,
    weight_rows,
    is_row,
    part_stride,
    eps,
    NUM_INPUTS: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    UP_OFFSET: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN: tl.constexpr,
    KEEPS_SUM: tl.constexpr,
    LINES: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Of the rows that begin at `x_rows` [R, 1] with the weights at `weight_rows` [N, 1], and with those `UP_OFFSET`
    behind them: [R, N] each.

    Programs whose first id is 0 write the residual's sum to `sum_rows`, if KEEPS_SUM.
    """
    fetch_ahead(weight_rows, 0, NUM_INPUTS, LINES, DEPENDENT)
    if UP_OFFSET > 0:
        fetch_ahead(weight_rows + UP_OFFSET, 0, NUM_INPUTS, LINES, DEPENDENT)
    wait_for_others(DEPENDENT)
    num_kept = tl.where(tl.program_id(0) == 0, NUM_INPUTS, 0)
    sums = tl.zeros((x_rows.shape[0], weight_rows.shape[0]), tl.float32)
    up_sums = tl.zeros((x_rows.shape[0], weight_rows.shape[0]), tl.float32)
    squares = tl.zeros((x_rows.shape[0],), tl.float32)
    for start in range(0, NUM_INPUTS, BLOCK_K):
        inputs = start + tl.arange(0, BLOCK_K)
        mask = is_row[:, None] if EVEN else is_row[:, None] & (inputs < NUM_INPUTS)[None, :]
        part_places = part_rows + inputs[None, :]
        values = summed_at(x_rows + inputs[None, :], part_places, part_stride, mask, NUM_PARTS)
        if KEEPS_SUM and NUM_PARTS > 0:
            kept = values.to(sum_rows.dtype.element_ty)
            tl.store(sum_rows + inputs[None, :], kept, mask=mask & (inputs < num_kept)[None, :])
        squares += tl.sum(values * values, axis=1)
        gain = tl.load(gains + inputs, mask=inputs < NUM_INPUTS, other=0.0).to(tl.float32)
        gained = (values * gain[None, :]).to(x_rows.dtype.element_ty)
        # "ieee" keeps float32 rows in float32. It has no effect on other types.
        weights = weights_at(weight_rows, inputs, NUM_INPUTS, EVEN).to(gained.dtype)
        sums = tl.dot(gained, tl.trans(weights), sums, input_precision="ieee")
        if UP_OFFSET > 0:
            up_weights = weights_at(weight_rows + UP_OFFSET, inputs, NUM_INPUTS, EVEN).to(gained.dtype)
            up_sums = tl.dot(gained, tl.trans(up_weights), up_sums, input_precision="ieee")
    factors = tl.rsqrt(squares / NUM_INPUTS + eps)[:, None]
    return sums * factors, up_sums * factors


@triton.jit
def _normed_product(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    parts,
    summed,
    gains,
    weights,
    scales,
    out,
    num_rows,
    x_stride,
    part_stride,
    part_row_stride,
    out_stride,
    eps,
    NUM_OUTPUTS: tl.constexpr,
    NUM_INPUTS: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    LINES: tl.constexpr,
    EVEN: tl.constexpr,
    SCALED: tl.constexpr,
    KEEPS_SUM: tl.constexpr,
    GATED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (n, r): one block of outputs for one block of rows."""
    rows = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    outputs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_output = rows < num_rows, outputs < NUM_OUTPUTS
    x_rows, part_rows = x + rows[:, None] * x_stride, parts + rows[:, None] * part_row_stride
    weight_rows = rows_of_weights(weights, outputs, NUM_OUTPUTS, NUM_INPUTS)
    up_offset: tl.constexpr = NUM_OUTPUTS * NUM_INPUTS * GATED
    sums, up_sums = products_of_norm(
        *(x_rows, part_rows, summed + rows[:, None] * NUM_INPUTS, gains, weight_rows, is_row, part_stride, eps),
        *(NUM_INPUTS, NUM_PARTS, up_offset, BLOCK_K, EVEN, KEEPS_SUM, LINES, DEPENDENT),
    )
    sums = scaled(sums, scales, outputs, is_output, SCALED)
    if GATED:
        up_sums = scaled(up_sums, scales + NUM_OUTPUTS, outputs, is_output, SCALED)
        sums = sums / (1 + tl.exp(-sums)) * up_sums
    places = out + rows[:, None] * out_stride + outputs[None, :]
    tl.store(places, sums.to(out.dtype.element_ty), mask=is_row[:, None] & is_output[None, :])
