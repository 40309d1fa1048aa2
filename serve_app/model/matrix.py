"""The matrices that a step streams: plain, or quantized weight by weight.

Weight-only quantization: every output channel (a row of the matrix) has one scale, symmetric around zero; what comes in
stays in the model's own type. Half the bytes of bfloat16, which is what a decode step waits for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Quantization = Literal["none", "int8", "fp8"]


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """`values` [out, in], int8 or float8_e4m3fn; `scales` [out] in float32. Row n is values[n] * scales[n]."""

    values: Tensor
    scales: Tensor
    product: "Product | None" = None
    """Computes `linear` faster, where there is something that does."""

    def dense(self, dtype: torch.dtype) -> Tensor:
        """[out, in], what the values stand for."""
        return (self.values.float() * self.scales[:, None]).to(dtype)


Matrix = Tensor | QuantizedMatrix

Product = Callable[[Tensor, QuantizedMatrix], Tensor]
"""`x` [T, in] to [T, out] in the type of `x`."""


def quantize(matrix: Tensor, quantization: Quantization) -> Matrix:
    """Round each output channel to 8 bits of its own largest magnitude; "none" gives `matrix` itself."""
    if quantization == "none":
        return matrix
    weights = matrix.float()
    largest = weights.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    if quantization == "int8":
        scales = largest / 127
        values = (weights / scales).round_().to(torch.int8)
    else:
        scales = largest / torch.finfo(torch.float8_e4m3fn).max
        values = (weights / scales).to(torch.float8_e4m3fn)
    return QuantizedMatrix(values, scales[:, 0].contiguous())


def linear(x: Tensor, matrix: Matrix) -> Tensor:
    """`x` [..., in] to [..., out]: the readable form, which faster ones must equal."""
    if isinstance(matrix, Tensor):
        return F.linear(x, matrix)
    if matrix.product is not None:
        return matrix.product(x.flatten(0, -2), matrix).unflatten(0, x.shape[:-1])
    # 8 bits are exact in any of the types, so the scales can wait for the few outputs.
    product = F.linear(x, matrix.values.to(x.dtype))
    return (product * matrix.scales).to(x.dtype)
