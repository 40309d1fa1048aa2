"""The number formats that a run can name."""

from dataclasses import dataclass

import torch

from serve_app.model.matrix import Quantization


@dataclass(frozen=True, slots=True)
class Precision:
    """`dtype` is the model's own; `quantization` that of the matrices of backbone and depth decoder."""

    name: str
    dtype: torch.dtype
    quantization: Quantization = "none"

    @property
    def is_dense(self) -> bool:
        return self.quantization == "none"


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", torch.float32),
        Precision("bf16", torch.bfloat16),
        Precision("int8", torch.bfloat16, "int8"),
        Precision("int4", torch.bfloat16, "int4"),
        Precision("fp8", torch.bfloat16, "fp8"),
    )
}


def dense_of(precision: Precision) -> Precision:
    """The same without quantization: what transformers is measured in."""
    return next(other for other in PRECISIONS.values() if other.dtype == precision.dtype and other.is_dense)
