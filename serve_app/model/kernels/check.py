"""Checks at start whether the kernels work on a device, so that the engine can do without them."""

from collections.abc import Sequence
from importlib import import_module

import torch

from serve_app.model.kernels import reference
from serve_app.model.kernels.cases import CASES
from serve_app.model.kernels.inputs import Inputs, Sizes
from serve_app.model.matrix import Quantization

TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Relative and absolute, since values are near one. bfloat16 has 8 bits and is rounded repeatedly."""
USUAL_SIZES = (Sizes(5), Sizes(64))
"""Few rows and many use different instructions."""


def first_failure(
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    quantization: Quantization = "none",
    sizes: Sequence[Sizes] = USUAL_SIZES,
) -> str | None:
    """The first kernel that does not compile or differs from its plain form, in one line. None if all are right.

    Call it outside of stream capture, because it compiles kernels.
    """
    if dtype not in TOLERANCE:
        return f"there are no kernels for {dtype}"
    for some in sizes:
        for name in CASES:
            reason = disagreement(name, Inputs(device, dtype, quantization), some)
            if reason is not None:
                return f"{name} with {some.num_rows} rows: {reason}"
    return None


def disagreement(name: str, inputs: Inputs, sizes: Sizes) -> str | None:
    """How a kernel differs from its plain form, in one line. None if it does not."""
    case = CASES[name]
    try:
        found = case(import_module("serve_app.model.kernels.fused"), inputs, sizes)
    # Triton, its compiler and the driver raise many types. Plain operations work in any case.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {_in_a_line(error)}"
    expected = case(reference, inputs.again(), sizes)
    try:
        tolerance = TOLERANCE[inputs.dtype]
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    except AssertionError as error:
        return _in_a_line(error)
    return None


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
