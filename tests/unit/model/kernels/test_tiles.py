"""How products are shared out, by what it makes the programs read."""

import pytest
import torch

pytest.importorskip("triton")

from serve_app.model.kernels.tiles import MAX_FEW_ROWS, Tiles, choose_tiles

DOWN = {"depth decoder": (1024, 8192), "backbone": (2048, 8192)}
"""Outputs and inputs of csm-1b."""


def empty(*sizes: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*sizes, dtype=dtype, device="meta")


def tiles_of_down(num_rows: int, num_outputs: int, num_inputs: int) -> Tiles:
    return choose_tiles(empty(num_rows, num_inputs), empty(num_outputs, num_inputs), may_split=True)


@pytest.mark.parametrize("num_rows", [17, 32, 33, 64])
@pytest.mark.parametrize("sizes", DOWN.values(), ids=DOWN)
def test_many_rows_are_read_hardly_more_than_the_weights(sizes: tuple[int, int], num_rows: int) -> None:
    """With blocks of 16 outputs, which few rows want, they would be read up to four times as much."""
    tiles = tiles_of_down(num_rows, *sizes)
    assert tiles.rows <= tiles.outputs
    assert sizes[0] // tiles.outputs * tiles.splits >= 96, "of an H100's 132 multiprocessors"


@pytest.mark.parametrize("sizes", DOWN.values(), ids=DOWN)
def test_few_rows_leave_two_sums_at_most_to_the_next_kernel(sizes: tuple[int, int]) -> None:
    """Every program of it reads them all."""
    for num_rows in (1, MAX_FEW_ROWS):
        assert tiles_of_down(num_rows, *sizes).splits <= 2


def test_a_few_more_rows_are_summed_where_they_are_multiplied() -> None:
    """A kernel that adds up parts takes longer than the reads which splits save."""
    assert tiles_of_down(16, *DOWN["depth decoder"]).splits == 1


@pytest.mark.parametrize("num_parts", [0, 1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("num_rows", [1, 16, 64, 128])
def test_a_pipeline_step_holds_the_sums_that_come_with_the_rows(
    num_rows: int, dtype: torch.dtype, num_parts: int
) -> None:
    """Three steps are held at a time, and a program of the smallest cards may have 99 KiB. float32 is for tests."""
    x, gate_up = empty(num_rows, 1024, dtype=dtype), empty(2 * 8192, 1024, dtype=dtype)
    tiles = choose_tiles(x, gate_up, halves=2, num_parts=num_parts)
    row_bytes, weight_bytes = dtype.itemsize + 4 * num_parts, 2 * tiles.outputs * dtype.itemsize
    assert 3 * tiles.inputs * (tiles.rows * row_bytes + weight_bytes) <= 99 << 10
