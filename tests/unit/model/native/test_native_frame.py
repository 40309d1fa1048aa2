"""The native step is the plain step: the same codes, the same state after it, whatever the sizes and the rows."""

import pytest
import torch

from serve_app.errors import StartupError
from serve_app.model.csm import Csm
from serve_app.model.matrix import Quantization
from serve_app.model.native.frame import NativeFrame, supports
from serve_app.model.sampling import REPETITION_WINDOW_FRAMES
from tests.support.native_rows import CONFIGS, NUM_POSITIONS, PlainFrame, Rows, make_model, make_rows, mixed_sampling

NUM_FRAMES = 6


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda name: name.replace(" ", "-"))
def model(request: pytest.FixtureRequest) -> Csm:
    return make_model(request.param)


@pytest.fixture(scope="module")
def tiny() -> Csm:
    return make_model("tiny")


def run(frame: NativeFrame | PlainFrame, num_rows: int, num_frames: int = NUM_FRAMES) -> torch.Tensor:
    """[frames, rows, K]"""
    step = frame.step if isinstance(frame, PlainFrame) else lambda: frame.step(num_rows)
    return torch.stack([step() for _ in range(num_frames)])


def assert_same_state(rows: Rows, expected: Rows) -> None:
    for tensor, other in zip(rows.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 8, 11])
def test_greedy_codes_and_state_are_those_of_the_plain_step(model: Csm, num_rows: int) -> None:
    rows = make_rows(model, num_rows, seed=num_rows).with_sampling(greedy=True)
    expected = rows.clone()
    codes = run(rows.native(model), num_rows)
    assert codes.equal(run(PlainFrame(model, expected), num_rows))
    assert_same_state(rows, expected)


@pytest.mark.parametrize("seed", range(8))
def test_draws_with_every_filter_are_those_of_the_plain_step(model: Csm, seed: int) -> None:
    rows = mixed_sampling(model, make_rows(model, 7, seed), seed)
    expected = rows.clone()
    codes = run(rows.native(model), 7)
    assert codes.equal(run(PlainFrame(model, expected), 7))
    assert_same_state(rows, expected)


def test_plain_softmax_draws_are_those_of_the_plain_step_over_many_seeds(tiny: Csm) -> None:
    rows = make_rows(tiny, 64).with_sampling(seed=torch.arange(64))
    expected = rows.clone()
    assert run(rows.native(tiny), 64).equal(run(PlainFrame(tiny, expected), 64))


def test_the_end_of_speech_waits_for_min_frames(tiny: Csm) -> None:
    rows = make_rows(tiny, 3).with_sampling(greedy=True, min_frames=[2, 0, 1])
    tiny_head = tiny.first_head.clone()
    try:
        tiny.first_head.zero_()  # all logits equal: the lowest code that may be drawn is
        codes = run(rows.native(tiny), 3, 3)[:, :, 0]
    finally:
        tiny.first_head.copy_(tiny_head)
    assert codes.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_history_wraps_around(tiny: Csm) -> None:
    rows = make_rows(tiny, 2).with_sampling(frame=[REPETITION_WINDOW_FRAMES - 2, 3 * REPETITION_WINDOW_FRAMES - 1])
    codes = run(rows.native(tiny), 2, 4)
    assert rows.sampling.frame.tolist() == [REPETITION_WINDOW_FRAMES + 2, 3 * REPETITION_WINDOW_FRAMES + 3]
    for row, places in enumerate(([62, 63, 0, 1], [63, 0, 1, 2])):
        assert rows.sampling.history[row, places].equal(codes[:, row])


def test_only_the_first_rows_move(tiny: Csm) -> None:
    rows = make_rows(tiny, 4)
    before = rows.clone()
    rows.native(tiny).step(2)
    assert (rows.position - before.position).tolist() == [1, 1, 0, 0]
    assert rows.next_input[2:].equal(before.next_input[2:])
    assert rows.kv[:, :, 2:].equal(before.kv[:, :, 2:])


def test_memory_behind_a_row_is_not_read(tiny: Csm) -> None:
    rows = make_rows(tiny, 5)
    poisoned = rows.clone()
    for row, position in enumerate(rows.position.tolist()):
        poisoned.kv[:, :, row, :, position:] = torch.nan
    assert run(rows.native(tiny), 5).equal(run(poisoned.native(tiny), 5))


def test_a_row_past_its_memory_writes_to_the_last_position_only(tiny: Csm) -> None:
    rows = make_rows(tiny, 2).with_sampling(greedy=True)
    rows.position[:] = torch.tensor([NUM_POSITIONS + 5, 3])
    before = rows.clone()
    run(rows.native(tiny), 2, 1)
    assert rows.kv[:, :, 0, :, :-1].equal(before.kv[:, :, 0, :, :-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("config", ["tiny", "larger than a chunk"])
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_neither_mates_nor_threads_change_a_bit(config: str, dtype: torch.dtype, quantization: Quantization) -> None:
    model = make_model(config, dtype)
    model.quantize(quantization)
    rows = mixed_sampling(model, make_rows(model, 11, 5), 5)
    alone = [rows.only(row) for row in range(11)]
    several = {num_threads: rows.clone() for num_threads in (2, 3)}
    codes = run(rows.native(model), 11)
    for num_threads, others in several.items():
        assert run(others.native(model, num_threads), 11).equal(codes)
        assert all(a.equal(b) for a, b in zip(rows.tensors(), others.tensors(), strict=True))
    for row, mine in enumerate(alone):
        assert run(mine.native(model), 1)[:, 0].equal(codes[:, row])
        assert all(a.equal(b) for a, b in zip(rows.only(row).tensors(), mine.tensors(), strict=True))


def test_a_model_that_it_cannot_run_is_refused_with_a_reason() -> None:
    model = make_model("tiny", torch.float64)
    assert "float64" in (supports(model) or "")
    with pytest.raises(StartupError, match="float64"):
        make_rows(model, 1).native(model)


def test_a_weight_type_that_it_cannot_read_is_refused_with_a_reason() -> None:
    model = make_model("tiny")
    model.quantize("fp8")
    assert "float8" in (supports(model) or "")


def test_more_rows_than_there_are_is_refused(tiny: Csm) -> None:
    frame = make_rows(tiny, 2).native(tiny)
    for num_rows in (0, 3):
        with pytest.raises(ValueError, match="num_rows"):
            frame.step(num_rows)


def test_state_of_another_shape_is_refused(tiny: Csm) -> None:
    rows = make_rows(tiny, 2)
    with pytest.raises(ValueError, match="next_input"):
        NativeFrame(tiny, rows.kv, rows.next_input.double(), rows.position, rows.sampling, 1)
