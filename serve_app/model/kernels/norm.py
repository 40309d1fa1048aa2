"""Residual sum and RMSNorm in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.arguments import Norm, Residual
from serve_app.model.kernels.dependent import wait_for_others
from serve_app.model.kernels.launch import launch, padded


def add_rms_norm(residual: Residual, norm: Norm) -> tuple[Tensor, Tensor]:
    """The residual's sum, and its norm: [R, H] each."""
    (x, parts), (num_rows, size) = residual, residual.x.shape
    summed, normed = empty_sum(residual), torch.empty(num_rows, size, device=x.device, dtype=x.dtype)
    launch(
        _add_rms_norm,
        (num_rows,),
        *(x, parts, norm.gains, summed, normed),
        *(x.stride(0), parts.stride(0), parts.stride(1), norm.eps),
        SIZE=size,
        NUM_PARTS=parts.shape[0],
        BLOCK=padded(size),
        num_warps=4,
    )
    return summed, normed


def empty_sum(residual: Residual) -> Tensor:
    """Where the residual's sum goes: [R, H]. Without parts it is there already."""
    x = residual.x
    return torch.empty(x.shape, device=x.device, dtype=x.dtype) if len(residual.parts) else x


@triton.jit
def _add_rms_norm(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    parts,
    gains,
    summed,
    normed,
    x_stride,
    part_stride,
    part_row_stride,
    eps,
    SIZE: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_others(DEPENDENT)
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < SIZE
    values = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    if NUM_PARTS > 0:
        added = tl.zeros((BLOCK,), tl.float32)
        for part in tl.static_range(NUM_PARTS):  # pyright: ignore[reportGeneralTypeIssues] - unrolled
            part_row = parts + part * part_stride + row * part_row_stride
            added += tl.load(part_row + columns, mask=inside, other=0.0).to(tl.float32)
        # The norm is that of the stored, rounded sum.
        kept = (values + added).to(x.dtype.element_ty)
        tl.store(summed + row * SIZE + columns, kept, mask=inside)
        values = kept.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=0) / SIZE + eps)
    gain = tl.load(gains + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row * SIZE + columns, (values * scale * gain).to(x.dtype.element_ty), mask=inside)
