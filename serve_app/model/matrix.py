"""The matrices that a step streams: plain, or quantized weight by weight.

Weight-only quantization: what comes in stays in the model's own type. With 8 bits every output channel (a row of the
matrix) has one scale, symmetric around zero. With 4 bits every 32 weights of a row have one. A decode step waits for
these bytes: 8 bits are half of bfloat16's, 4 bits with their scales 0.28 of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Quantization = Literal["none", "int8", "fp8", "int4"]
QuantizationChoice = Quantization | Literal["auto"]
"""`auto` is int8 for each matrix that `quantize_where_allowed` rounds, on a CPU."""

GROUP_SIZE = 32
"""Weights of a row that share a scale in int4."""
MAX_AUTO_ERROR = 0.025
"""What `auto` accepts of a matrix, as `rounding_error` has it; docs/benchmarks.md says why."""
_MEDIAN_SAMPLES = 256


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """`values` [out, in], int8 or float8_e4m3fn; `scales` [out] in float32. Row n is values[n] * scales[n].

    int4: `values` [out, P / 2] in uint8 and `scales` [out, P / 32] in bfloat16, where P is `in` rounded up to a
    multiple of 64. Byte 32 * j + i of a row holds column 64 * j + i in its lower half and 64 * j + 32 + i in its upper
    half, each plus 8.
    """

    values: Tensor
    scales: Tensor
    product: "Product | None" = None
    """Computes `linear` faster, where there is something that does."""
    columns: int | None = None
    """`in` of int4."""

    @property
    def is_int4(self) -> bool:
        return self.columns is not None

    def dense(self, dtype: torch.dtype) -> Tensor:
        """[out, in], what the values stand for."""
        if self.columns is None:
            return (self.values.float() * self.scales[:, None]).to(dtype)
        pairs = self.values.unflatten(1, (-1, 1, GROUP_SIZE))
        numbers = torch.cat((pairs & 15, pairs >> 4), dim=2).flatten(1, 2).float() - 8
        weights = numbers * self.scales.float()[:, :, None]
        return weights.flatten(1)[:, : self.columns].to(dtype)


Matrix = Tensor | QuantizedMatrix

Product = Callable[[Tensor, QuantizedMatrix], Tensor]
"""`x` [T, in] to [T, out] in the type of `x`."""


def quantize(matrix: Tensor, quantization: Quantization) -> Matrix:
    """Round each output channel, or group of int4, to its own largest magnitude; "none" gives `matrix` itself."""
    if quantization == "none":
        return matrix
    if quantization == "int4":
        return _to_int4(matrix)
    weights = matrix.float()
    largest = weights.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    if quantization == "int8":
        scales = largest / 127
        values = (weights / scales).round_().to(torch.int8)
    else:
        scales = largest / torch.finfo(torch.float8_e4m3fn).max
        values = (weights / scales).to(torch.float8_e4m3fn)
    return QuantizedMatrix(values, scales[:, 0].contiguous())


def rounding_error(matrix: Tensor, quantized: QuantizedMatrix) -> float:
    """Root mean square of a row's errors over the median size of its weights, mean of all rows.

    The median, because one huge weight makes the mean size large, while the other weights are rounded away.
    """
    weights = matrix.float()
    errors = (quantized.dense(torch.float32) - weights).square_().mean(dim=1).sqrt()
    some = weights[:, :: max(1, weights.shape[1] // _MEDIAN_SAMPLES)]
    relative = errors / some.abs().median(dim=1).values
    return torch.where(errors == 0, 0, relative).mean().item()


def quantize_where_allowed(matrix: Tensor) -> Matrix:
    """int8 where its error is at most `MAX_AUTO_ERROR`, else `matrix` itself."""
    quantized = quantize(matrix, "int8")
    assert isinstance(quantized, QuantizedMatrix)
    return quantized if rounding_error(matrix, quantized) <= MAX_AUTO_ERROR else matrix


def _to_int4(matrix: Tensor) -> QuantizedMatrix:
    columns = matrix.shape[1]
    # Whole steps of the native product, which takes two groups at a time.
    groups = F.pad(matrix.float(), (0, -columns % (2 * GROUP_SIZE))).unflatten(1, (-1, GROUP_SIZE))
    # The largest becomes -8, of which there is no positive counterpart: so the scale may be negative.
    places = groups.abs().argmax(dim=2, keepdim=True)
    scales = (groups.gather(2, places) / -8).bfloat16()
    divisors = torch.where(scales == 0, 1, scales.float())
    numbers = ((groups / divisors).round_().clamp_(-8, 7) + 8).to(torch.uint8).unflatten(1, (-1, 2))
    values = numbers[:, :, 0] | numbers[:, :, 1] << 4
    return QuantizedMatrix(values.flatten(1).contiguous(), scales[:, :, 0].contiguous(), columns=columns)


def linear(x: Tensor, matrix: Matrix) -> Tensor:
    """`x` [..., in] to [..., out]: the readable form, which faster ones must equal."""
    if isinstance(matrix, Tensor):
        return F.linear(x, matrix)
    if matrix.product is not None:
        return matrix.product(x.flatten(0, -2), matrix).unflatten(0, x.shape[:-1])
    if matrix.is_int4:
        return F.linear(x, matrix.dense(x.dtype))
    # 8 bits are exact in any of the types, so the scales can wait for the few outputs.
    product = F.linear(x, matrix.values.to(x.dtype))
    return (product * matrix.scales).to(x.dtype)
