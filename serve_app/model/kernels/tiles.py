"""How products of few rows with large matrices are shared out to the multiprocessors."""

from typing import NamedTuple

import triton
from torch import Tensor

from serve_app.model.kernels.launch import padded

MAX_SKINNY_ROWS = 64
MAX_FEW_ROWS = 8
"""Up to so many, the sums and the norm before a product are cheap enough for each of its programs to make them anew."""

_ROWS_AS_WEIGHTS = 32
"""With more, a narrow block reads more of its rows than of its weights, all of it from the L2 cache."""
_MIN_ROWS = 8
"""Of a tile. Tensor cores take 8 or 16."""
_MAX_ROWS_WITH_PARTS = 2 * MAX_FEW_ROWS
"""Of a tile: as many tokens as few rows have in the depth decoder's first pass."""
_MAX_FEW_PARTS = 2
"""Splits of a product of few rows, since every program of the next one reads them all."""
_WANTED_PROGRAMS = 192
"""An H100 has 132 multiprocessors, and two programs fit on each."""
_STAGE_BYTES = 28 << 10
"""The most that a pipeline step holds. Two programs of four steps each share the 227 KiB of a Hopper's multiprocessor.
On Ampere and Ada three steps are held at a time, and a program of an Ada card may have 99 KiB."""
_MIN_STEPS = 4
"""With fewer steps there is no pipeline."""
_MIN_SPLIT = 512
"""The fewest inputs of a split. Shorter splits spend their time starting."""


class Tiles(NamedTuple):
    """How a product is tiled. All but `splits` are powers of two, for which the kernel is compiled."""

    rows: int
    outputs: int
    inputs: int
    splits: int


def choose_tiles(x: Tensor, values: Tensor, *, may_split: bool = False, halves: int = 1, num_parts: int = 0) -> Tiles:
    """Of `x` [R, K] times `values` [halves * N, K]. They follow from shapes and types alone, as a recorded graph needs.

    `halves`: matrices that are streamed together. `num_parts`: float32 sums that come with the rows.
    """
    num_rows, (num_outputs, num_inputs) = len(x), (len(values) // halves, values.shape[1])
    rows = min(padded(num_rows, _MIN_ROWS), MAX_SKINNY_ROWS if num_parts == 0 else _MAX_ROWS_WITH_PARTS)
    row_blocks = triton.cdiv(num_rows, rows)
    most_splits = num_inputs // _MIN_SPLIT if may_split else 1
    if num_rows <= MAX_FEW_ROWS:
        most_splits = min(most_splits, _MAX_FEW_PARTS)
    # Every block of outputs reads all rows again. Where those are as many bytes as its weights, blocks are wide.
    reached = most_splits if rows > _ROWS_AS_WEIGHTS else 1
    wide_enough = [n for n in (64, 32) if row_blocks * triton.cdiv(num_outputs, n) * reached >= _WANTED_PROGRAMS]
    outputs = wide_enough[0] if wide_enough else 16
    programs, splits = row_blocks * triton.cdiv(num_outputs, outputs), 1
    while programs * splits < _WANTED_PROGRAMS and 2 * splits <= most_splits:
        splits *= 2
    input_bytes = (x.element_size() + 4 * num_parts) * rows + halves * outputs * values.element_size()
    most = min(_STAGE_BYTES // input_bytes, num_inputs // (splits * _MIN_STEPS))
    fitting = [k for k in (512, 256, 128, 64) if k <= most and num_inputs % (k * splits) == 0]
    return Tiles(rows, outputs, fitting[0] if fitting else 32, splits)
