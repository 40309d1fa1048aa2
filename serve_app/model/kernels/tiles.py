"""How products of few rows with large matrices are shared out to the multiprocessors."""

from itertools import product
from typing import NamedTuple

import triton
from torch import Tensor

from serve_app.model.kernels.launch import padded

MAX_SKINNY_ROWS = 64
"""Of a tile. With more rows cuBLAS multiplies large plain matrices."""
MAX_FEW_ROWS = 8
"""Up to so many, partial sums are so few bytes that every program of the next kernel adds them up anew."""

_MIN_ROWS = 8
"""Of a tile. Tensor cores take 8 or 16."""
_OUTPUTS = (16, 32, 64, 128)
_MAX_OUTPUTS = 128
"""Of a program, of all matrices together: their sums are held in registers."""
_SPLITS = (1, 2, 4, 8, 16)
_MIN_SPLIT = 512
"""The fewest inputs of a split. Shorter splits spend their time starting."""
_SATURATING = 72
"""Programs that together draw what the L2 cache of a Hopper gives, some 5.5 TB/s. Fewer take as long as these would."""
_MEMORY_BYTES, _SATURATING_MEMORY = 4 / 3, 96
"""What that cache gives while the memory behind it gives a byte; it answers later, so more programs must ask."""
_WANTED_PROGRAMS = 192
"""An H100 has 132 multiprocessors, and two programs fit on each."""
_KERNEL_BYTES = 14 << 20
"""What that cache gives while a small kernel is launched and runs, some 2.5 microseconds."""
_STAGE_BYTES = 28 << 10
"""The most that a pipeline step holds. Two programs of four steps each share the 227 KiB of a Hopper's multiprocessor.
On Ampere and Ada three steps are held at a time, and a program may have 99 KiB on the smallest of them."""
_MIN_STEPS = 4
"""With fewer steps there is no pipeline."""
_LEAST_INPUTS = 32
"""Of a step."""


class Tiles(NamedTuple):
    """How a product is tiled. All but `splits` are powers of two, for which the kernel is compiled."""

    rows: int
    outputs: int
    inputs: int
    splits: int


def choose_tiles(x: Tensor, values: Tensor, *, may_split: bool = False, halves: int = 1, num_parts: int = 0) -> Tiles:
    """Of `x` [R, K] times `values` [halves * N, K]: those that take the least time, by what their programs read.

    They follow from shapes and types alone, as a recorded graph needs. `halves`: matrices that are streamed together.
    `num_parts`: float32 sums that come with the rows.
    """
    (num_rows, num_inputs), num_outputs = x.shape, len(values) // halves
    row_bytes = x.element_size() + 4 * num_parts
    weight_bytes = halves * values.element_size()
    rows = min(padded(num_rows, _MIN_ROWS), MAX_SKINNY_ROWS)
    while rows > _MIN_ROWS and rows * row_bytes * _LEAST_INPUTS > _STAGE_BYTES // 2:
        rows //= 2
    row_blocks = triton.cdiv(num_rows, rows)

    def cost(choice: tuple[int, int]) -> tuple[float, int, int]:
        """In bytes of the L2 cache. Of equal ones, wide blocks that occupy every multiprocessor come first."""
        outputs, splits = choice
        programs = row_blocks * triton.cdiv(num_outputs, outputs) * splits
        each = (triton.cdiv(num_rows, row_blocks) * row_bytes + outputs * weight_bytes) * num_inputs // splits
        streamed = _MEMORY_BYTES * num_outputs * num_inputs * weight_bytes
        read = max(each * max(programs, _SATURATING), streamed * max(1, _SATURATING_MEMORY / programs))
        if splits > 1:
            sums = 4 * splits * num_rows * num_outputs
            read += sums * _SATURATING if num_rows <= MAX_FEW_ROWS else 2 * sums + _KERNEL_BYTES
        return read, max(_WANTED_PROGRAMS - programs, 0), -outputs

    most_splits = max(1, num_inputs // _MIN_SPLIT) if may_split else 1
    splits = [s for s in _SPLITS if s <= most_splits]
    outputs, splits = min(product([n for n in _OUTPUTS if halves * n <= _MAX_OUTPUTS], splits), key=cost)
    stage_bytes = rows * row_bytes + outputs * weight_bytes
    most = min(_STAGE_BYTES // stage_bytes, num_inputs // (splits * _MIN_STEPS))
    fitting = [k for k in (512, 256, 128, 64) if k <= most and num_inputs % (k * splits) == 0]
    return Tiles(rows, outputs, fitting[0] if fitting else _LEAST_INPUTS, splits)
