"""How products of few rows with large matrices are shared out to the multiprocessors."""

from typing import NamedTuple

import triton

from serve_app.model.kernels.launch import padded

MAX_SKINNY_ROWS = 64
MAX_FEW_ROWS = 8
"""Up to so many, the sums and the norm before a product are cheap enough for each of its programs to make them anew."""

_ROWS_AS_WEIGHTS = 32
"""With more, a narrow block reads more of its rows than of its weights, all of it from the L2 cache."""
_MIN_ROWS = 8
"""Of a tile. Tensor cores take 8 or 16."""
_MAX_FEW_PARTS = 2
"""Splits of a product of few rows, since every program of the next one reads them all."""
_WANTED_PROGRAMS = 192
"""An H100 has 132 multiprocessors, and two programs fit on each."""
_STAGE_BYTES = 28 << 10
"""The most that a pipeline step holds. Two programs of four steps each share a multiprocessor's 227 KiB."""
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


def choose_tiles(
    num_rows: int,
    num_outputs: int,
    num_inputs: int,
    weight_bytes: int,
    *,
    may_split: bool = False,
    halves: int = 1,
    num_parts: int = 0,
) -> Tiles:
    """Tiles that depend on shapes alone, so that a recorded graph is right for any values.

    `halves`: matrices that are streamed together. `num_parts`: float32 sums that come with the rows.
    """
    rows = min(padded(num_rows, _MIN_ROWS), MAX_SKINNY_ROWS)
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
    input_bytes = (2 + 4 * num_parts) * rows + halves * outputs * weight_bytes
    most = min(_STAGE_BYTES // input_bytes, num_inputs // (splits * _MIN_STEPS))
    fitting = [k for k in (512, 256, 128) if k <= most and num_inputs % (k * splits) == 0]
    return Tiles(rows, outputs, fitting[0] if fitting else 64, splits)
