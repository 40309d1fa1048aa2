"""Products of a norm: the residual is summed and normed while the matrix streams, so that no kernel does it before.

RMSNorm multiplies a row by one number, which follows from the row's squares. So the product is made of the row times
the gains, and multiplied by that number at its end, when all squares are summed. Every program sums them anew: this
pays where rows are few.
"""

import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Residual
from serve_app.model.kernels.dependent import fetch_ahead, wait_for_others
from serve_app.model.kernels.launch import launch
from serve_app.model.kernels.linear import lines_of, matrix_parts, weights_at
from serve_app.model.kernels.norm import empty_sum
from serve_app.model.kernels.tiles import choose_tiles
from serve_app.model.matrix import Matrix


def normed_linear(residual: Residual, norm: Norm, matrix: Matrix, out: Tensor) -> None:
    """The product of the norm with `matrix` [N, H], into `out` [R, N]."""
    _multiply(residual, norm, matrix, out, None)


def normed_swiglu(residual: Residual, norm: Norm, gate_up: Matrix) -> tuple[Tensor, Tensor]:
    """The residual's sum [R, H], and `linear.swiglu` of its norm: [R, N]."""
    summed = empty_sum(residual)
    out = residual.x.new_empty(len(residual.x), matrix_parts(gate_up)[0].shape[0] // 2)
    _multiply(residual, norm, gate_up, out, summed)
    return summed, out


def _multiply(residual: Residual, norm: Norm, matrix: Matrix, out: Tensor, summed: Tensor | None) -> None:
    values, scales = matrix_parts(matrix)
    (num_rows, num_outputs), (x, parts) = out.shape, residual
    num_inputs = values.shape[1]
    halves = len(values) // num_outputs
    tiles = choose_tiles(x, values, halves=halves, num_parts=len(parts))
    launch(
        _normed_product,
        (triton.cdiv(num_outputs, tiles.outputs), triton.cdiv(num_rows, tiles.rows)),
        *(x, parts, norm.gains, x if summed is None else summed, values, values if scales is None else scales, out),
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
def products_of_norm(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    parts,
    gains,
    summed,
    weight_rows,
    rows,
    num_rows,
    x_stride,
    part_stride,
    part_row_stride,
    eps,
    NUM_INPUTS: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    UP_OFFSET: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN: tl.constexpr,
    KEEPS_SUM: tl.constexpr,
    LINES: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Of rows with the weights at `weight_rows`, and with those `UP_OFFSET` behind them: [BLOCK_R, BLOCK_N] each.

    Programs whose first id is 0 write the residual's sum, if KEEPS_SUM.
    """
    fetch_ahead(weight_rows, 0, NUM_INPUTS, LINES, DEPENDENT)
    if UP_OFFSET > 0:
        fetch_ahead(weight_rows + UP_OFFSET, 0, NUM_INPUTS, LINES, DEPENDENT)
    wait_for_others(DEPENDENT)
    is_row = rows < num_rows
    is_summed = rows < tl.where(tl.program_id(0) == 0, num_rows, 0)
    sums = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    up_sums = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    squares = tl.zeros((BLOCK_R,), tl.float32)
    for start in range(0, NUM_INPUTS, BLOCK_K):
        inputs = start + tl.arange(0, BLOCK_K)
        mask = is_row[:, None] if EVEN else is_row[:, None] & (inputs < NUM_INPUTS)[None, :]
        values = tl.load(x + rows[:, None] * x_stride + inputs[None, :], mask=mask, other=0.0).to(tl.float32)
        if NUM_PARTS > 0:
            part_rows = parts + rows[:, None] * part_row_stride + inputs[None, :]
            for part in tl.static_range(NUM_PARTS):  # pyright: ignore[reportGeneralTypeIssues] - unrolled
                values += tl.load(part_rows + part * part_stride, mask=mask, other=0.0).to(tl.float32)
            # The norm is that of the stored, rounded sum.
            kept = values.to(x.dtype.element_ty)
            if KEEPS_SUM:
                sum_rows = summed + rows[:, None] * NUM_INPUTS + inputs[None, :]
                tl.store(sum_rows, kept, mask=mask & is_summed[:, None])
            values = kept.to(tl.float32)
        squares += tl.sum(values * values, axis=1)
        gain = tl.load(gains + inputs, mask=inputs < NUM_INPUTS, other=0.0).to(tl.float32)
        gained = (values * gain[None, :]).to(x.dtype.element_ty)
        part_weights = weights_at(weight_rows, inputs, NUM_INPUTS, EVEN).to(x.dtype.element_ty)
        sums = tl.dot(gained, tl.trans(part_weights), sums, input_precision="ieee")
        if UP_OFFSET > 0:
            up_weights = weights_at(weight_rows + UP_OFFSET, inputs, NUM_INPUTS, EVEN).to(x.dtype.element_ty)
            up_sums = tl.dot(gained, tl.trans(up_weights), up_sums, input_precision="ieee")
    factors = tl.rsqrt(squares / NUM_INPUTS + eps)[:, None]
    return sums * factors, up_sums * factors


@triton.jit
def _normed_product(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    parts,
    gains,
    summed,
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
    weight_rows = weights + tl.minimum(outputs, NUM_OUTPUTS - 1)[:, None].to(tl.int64) * NUM_INPUTS
    up_offset: tl.constexpr = NUM_OUTPUTS * NUM_INPUTS * GATED
    sums, up_sums = products_of_norm(
        *(x, parts, gains, summed, weight_rows, rows, num_rows, x_stride, part_stride, part_row_stride, eps),
        *(NUM_INPUTS, NUM_PARTS, up_offset, BLOCK_R, BLOCK_N, BLOCK_K, EVEN, KEEPS_SUM, LINES, DEPENDENT),
    )
    if SCALED:
        sums *= tl.load(scales + outputs, mask=is_output, other=0.0)[None, :]
    if GATED:
        if SCALED:
            up_sums *= tl.load(scales + NUM_OUTPUTS + outputs, mask=is_output, other=0.0)[None, :]
        sums = sums / (1 + tl.exp(-sums)) * up_sums
    places = out + rows[:, None] * out_stride + outputs[None, :]
    tl.store(places, sums.to(out.dtype.element_ty), mask=is_row[:, None] & is_output[None, :])
