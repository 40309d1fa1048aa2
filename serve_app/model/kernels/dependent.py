"""Kernels that start while the one before them ends: NVIDIA's programmatic dependent launch, from Hopper on.

Each kernel begins with `wait_for_others`. So when it waits for the one before it, that one has waited for
all before itself, and nobody reads or writes too early. What a frame never changes needs no waiting: a product fetches
its weights to the L2 cache meanwhile.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

_LINE_BYTES = tl.constexpr(128)


@triton.jit
def wait_for_others(DEPENDENT: tl.constexpr):
    """Let the next kernel start, and wait until all before this one have ended."""
    if DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def fetch_ahead(weight_rows, first, num_inputs, LINES: tl.constexpr, DEPENDENT: tl.constexpr):
    """Start to bring weights of `weight_rows` [N, 1], whose rows are `num_inputs` long, to the L2 cache.

    Of each row `LINES` cache lines from the weight `first` on, a power of two, as far as there are so many.
    """
    if DEPENDENT:
        per_line: tl.constexpr = _LINE_BYTES * 8 // weight_rows.dtype.element_ty.primitive_bitwidth
        inputs = tl.minimum(first + tl.arange(0, LINES) * per_line, num_inputs - 1)
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
            "=r,l",
            [weight_rows + inputs[None, :]],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
