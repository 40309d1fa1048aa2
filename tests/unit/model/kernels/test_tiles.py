"""How products are shared out, by what it makes the programs read."""

import pytest

pytest.importorskip("triton")

from serve_app.model.kernels.tiles import MAX_FEW_ROWS, choose_tiles

DOWN = {"depth decoder": (1024, 8192), "backbone": (2048, 8192)}
"""Outputs and inputs of csm-1b."""
BFLOAT16 = 2


@pytest.mark.parametrize("num_rows", [33, 64])
@pytest.mark.parametrize("sizes", DOWN.values(), ids=DOWN)
def test_many_rows_are_read_hardly_more_than_the_weights(sizes: tuple[int, int], num_rows: int) -> None:
    """With blocks of 16 outputs, which few rows want, they would be read four times as much."""
    tiles = choose_tiles(num_rows, *sizes, BFLOAT16, may_split=True)
    assert tiles.rows <= tiles.outputs
    assert sizes[0] // tiles.outputs * tiles.splits >= 132, "multiprocessors of an H100"


@pytest.mark.parametrize("sizes", DOWN.values(), ids=DOWN)
def test_few_rows_leave_two_sums_to_the_next_kernel_and_more_leave_what_occupies_the_card(
    sizes: tuple[int, int],
) -> None:
    """Of few rows every program of the next kernel reads all sums."""
    assert choose_tiles(MAX_FEW_ROWS, *sizes, BFLOAT16, may_split=True).splits == 2
    more = choose_tiles(MAX_FEW_ROWS + 1, *sizes, BFLOAT16, may_split=True)
    assert sizes[0] // more.outputs * more.splits >= 192


def test_a_pipeline_step_holds_the_sums_that_come_with_the_rows() -> None:
    """Two programs of four steps share a multiprocessor's 227 KiB."""
    for num_parts in (0, 1, 2, 4):
        tiles = choose_tiles(8, 8192, 1024, BFLOAT16, halves=2, num_parts=num_parts)
        step_bytes = tiles.inputs * (tiles.rows * (BFLOAT16 + 4 * num_parts) + 2 * tiles.outputs * BFLOAT16)
        assert 2 * 4 * step_bytes <= 227 << 10
