"""Each of our kernels beside its plain form, on the card itself."""

import pytest
import torch

from serve_app.model.kernels.cases import CASES
from serve_app.model.kernels.check import disagreement, first_failure
from serve_app.model.kernels.inputs import Inputs, Sizes
from serve_app.model.matrix import Quantization
from tests.support.gpu_engine import DEVICE


def need_fp8(quantization: Quantization) -> None:
    if quantization == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this card has no fp8 (compute capability 8.9)")


@pytest.mark.parametrize("quantization", ["none", "int8", "fp8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_what_is_asked_at_the_start_holds(dtype: torch.dtype, quantization: Quantization) -> None:
    need_fp8(quantization)
    assert first_failure(DEVICE, dtype, quantization) is None


@pytest.mark.parametrize("num_rows", [1, 2, 16, 33, 256])
@pytest.mark.parametrize("name", CASES)
def test_every_kernel_at_other_numbers_of_rows(name: str, num_rows: int) -> None:
    inputs = Inputs(DEVICE, torch.bfloat16, "none", seed=num_rows)
    assert disagreement(name, inputs, Sizes(num_rows)) is None
