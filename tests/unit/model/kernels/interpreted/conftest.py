"""The kernels here run through Triton's interpreter, on a CPU; `../test_interpreted.py` starts these tests."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

# Triton reads it once, when it is imported; without it there is nothing here that a CPU could run.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if INTERPRETED else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def repaired_interpreter() -> Iterator[None]:
    """The interpreter holds bfloat16 as its bits; a product of them, and what an integer becomes, it takes for integers
    (Triton 3.6 to 3.9)."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    plain_dot, plain_cast = builder.create_dot, builder.create_si_to_fp

    def widened(handle: interpreter.TensorHandle) -> interpreter.TensorHandle:
        if handle.get_element_ty() != tl.bfloat16:
            return handle
        return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def dot(self, a, b, *args):
        return plain_dot(self, widened(a), widened(b), *args)

    def from_integer(self, handle, to_type):
        if to_type.scalar != tl.bfloat16:
            return plain_cast(self, handle, to_type)
        return self.create_fp_trunc(plain_cast(self, handle, tl.float32), to_type)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "create_dot", dot)
        patch.setattr(builder, "create_si_to_fp", from_integer)
        # A fourth of the time, for sums of 32 bits that small sizes do not overflow.
        options = replace(interpreter.interpreter_builder.options, sanitize_overflow=False)
        patch.setattr(interpreter.interpreter_builder, "options", options)
        yield


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """What torch.empty gives is NaN, so that an output which nobody wrote shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
