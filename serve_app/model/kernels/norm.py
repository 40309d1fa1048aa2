"""RMSNorm, and the sum of a residual's parts, where no product does either."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Residual
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded

_BLOCK_SUMMED = 512
"""Of a row. Several programs share one, since rows are few."""


def rms_norm(x: Tensor, norm: Norm) -> Tensor:
    """[T, H] to [T, H]. Rows of `x` may be strided."""
    (num_rows, size), normed = x.shape, torch.empty(x.shape, device=x.device, dtype=x.dtype)
    launch(
        _rms_norm,
        (num_rows,),
        *(x, norm.gains, normed, x.stride(0), norm.eps),
        SIZE=size,
        BLOCK=padded(size),
        num_warps=4,
    )
    return normed


def add_parts(residual: Residual) -> Residual:
    """The same without parts, which are added to `x` in place."""
    (x, parts), (num_rows, size) = residual, residual.x.shape
    block = min(padded(size), _BLOCK_SUMMED)
    launch(
        _add_parts,
        (num_rows, triton.cdiv(size, block)),
        *(x, parts, x.stride(0), parts.stride(0), parts.stride(1)),
        SIZE=size,
        NUM_PARTS=len(parts),
        BLOCK=block,
        num_warps=4,
    )
    return Residual.of(x)


def empty_sum(residual: Residual) -> Tensor:
    """Where the residual's sum goes: [T, H]. Without parts it is there already."""
    x = residual.x
    return torch.empty(x.shape, device=x.device, dtype=x.dtype) if len(residual.parts) else x


@triton.jit
def summed_at(x_places, part_places, part_stride, mask, NUM_PARTS: tl.constexpr):
    """The residual's sum at `x_places` in float32, rounded to its type: a norm is that of the stored sum."""
    values = tl.load(x_places, mask=mask, other=0.0).to(tl.float32)
    if NUM_PARTS > 0:
        for part in tl.static_range(NUM_PARTS):  # pyright: ignore[reportGeneralTypeIssues] - unrolled
            values += tl.load(part_places + part * part_stride, mask=mask, other=0.0)
        values = values.to(x_places.dtype.element_ty).to(tl.float32)
    return values


@triton.jit
def _add_parts(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    parts,
    x_stride,
    part_stride,
    part_row_stride,
    SIZE: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Program (t, n): a block of a row."""
    wait_for_others(DEPENDENT)
    row, columns = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside, places = columns < SIZE, x + row * x_stride + columns
    values = summed_at(places, parts + row * part_row_stride + columns, part_stride, inside, NUM_PARTS)
    tl.store(places, values.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _rms_norm(
    x,
    gains,
    normed,
    x_stride,
    eps,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_others(DEPENDENT)
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    inside = columns < SIZE
    values = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=0) / SIZE + eps)
    gain = tl.load(gains + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row * SIZE + columns, (values * scale * gain).to(x.dtype.element_ty), mask=inside)
