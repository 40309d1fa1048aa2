"""Residual sum and RMSNorm in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from serve_app.model.kernels.launch import launch, padded


def add_rms_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The residual x + delta, and its norm: [R, H] each.

    `delta` is None, [R, H], or the partial sums [parts, R, H] of `split_linear`. Rows may be strided.
    """
    num_rows, size = x.shape
    parts = x.new_empty(0, 1, 1) if delta is None else delta.view(-1, *delta.shape[-2:])
    residual = x if delta is None else torch.empty(num_rows, size, device=x.device, dtype=x.dtype)
    normed = torch.empty(num_rows, size, device=x.device, dtype=x.dtype)
    launch(
        _add_rms_norm,
        (num_rows,),
        *(x, parts, weight, residual, normed),
        *(x.stride(0), parts.stride(0), parts.stride(1), eps),
        SIZE=size,
        NUM_PARTS=parts.shape[0],
        BLOCK=padded(size),
        num_warps=4,
    )
    return residual, normed


@triton.jit
def _add_rms_norm(  # noqa: PLR0913 - a kernel takes plain tensors and numbers
    x,
    parts,
    weight,
    residual,
    normed,
    x_stride,
    part_stride,
    part_row_stride,
    eps,
    SIZE: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
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
        tl.store(residual + row * SIZE + columns, kept, mask=inside)
        values = kept.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, axis=0) / SIZE + eps)
    gains = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row * SIZE + columns, (values * scale * gains).to(x.dtype.element_ty), mask=inside)
