"""A frame of kernels draws the codes of the plain step, and leaves the same state behind."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from serve_app.engine.steps.graphs import row_buckets
from serve_app.model.checkpoint import load_model, open_checkpoint
from serve_app.model.create import create_checkpoint
from serve_app.model.csm import Csm
from serve_app.model.kernels import reference, tiles
from serve_app.model.kernels.arguments import FrameRows
from serve_app.model.kernels.frame import FusedFrame
from serve_app.model.kernels.inputs import Inputs, Sizes
from serve_app.model.sampling import FrameSampler, RowSampling, SamplingPlan

CPU = torch.device("cpu")
NUM_ROWS, NUM_POSITIONS, NUM_READABLE = 3, 90, 80
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny, few codebooks": {"num_codebooks": 3, "codec_config": {"codebook_size": 32}},
    "odd sizes": {
        "num_codebooks": 3,
        "hidden_size": 72,
        "intermediate_size": 100,
        "num_hidden_layers": 1,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 12,
        "depth_decoder_config": {
            "hidden_size": 40,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
        },
        "codec_config": {"codebook_size": 32},
    },
}


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Csm:
    """The first of the configs where a test does not ask for others."""
    folder = tmp_path / "checkpoint"
    create_checkpoint(folder, "tiny", seed=3, overrides=CONFIGS[getattr(request, "param", next(iter(CONFIGS)))])
    return load_model(open_checkpoint(str(folder), None), CPU, torch.float32)


def make_rows(model: Csm, num_active: int, num_rows: int = NUM_ROWS, **changes: float) -> FrameRows:
    """Rows at different positions, each with something to read; where nothing was written there is NaN."""
    shape, inputs = model.shape, Inputs(CPU, torch.float32, "none", seed=9)
    backbone = shape.backbone
    size = (backbone.num_layers, 2, num_rows, backbone.num_kv_heads, NUM_POSITIONS, backbone.head_dim)
    kv, position = torch.full(size, torch.nan), torch.tensor([70, 0, 31]).repeat(num_rows)[:num_rows]
    for row, end in enumerate(position.tolist()):
        kv[:, :, row, :, :end] = inputs.normal(*kv[:, :, row, :, :end].shape)
    sizes = Sizes(num_rows, num_codebooks=shape.num_codebooks, codebook_size=shape.codebook_size)
    sampling = inputs.sampling(sizes)
    for name, value in changes.items():
        getattr(sampling, name).fill_(value)
    next_input = inputs.normal(num_rows, backbone.hidden_size)
    return FrameRows(kv, next_input, position, sampling, torch.tensor([num_active]))


def plain_frame(model: Csm, rows: FrameRows) -> Tensor:
    """[active rows, K]"""
    shape, active = model.shape, int(rows.num_active)
    sampling = RowSampling(**{f.name: getattr(rows.sampling, f.name)[:active] for f in fields(RowSampling)})
    plan = SamplingPlan(shape.codebook_size, False, True, False, True, True)
    sampler = FrameSampler(sampling, plan, shape.num_codebooks, shape.codebook_size)
    scratch = torch.zeros(
        shape.depth.num_layers, 2, active, shape.depth.num_kv_heads, shape.num_codebooks, shape.depth.head_dim
    )
    kv = rows.kv[:, :, :active].nan_to_num()
    hidden = model.step(rows.next_input[:active], kv, rows.position[:active], NUM_READABLE)
    for row, position in enumerate(rows.position[:active].tolist()):
        rows.kv[:, :, row, :, position] = kv[:, :, row, :, position]
    codes = model.draw_frame(hidden, model.depth_kv(scratch), sampler)
    reference.embed_frame(codes, model.audio_embedding, rows.next_input, rows.num_active)
    reference.advance(codes, rows.position, rows.sampling, rows.num_active)
    return codes


def assert_same_state(fused: FrameRows, plain: FrameRows) -> None:
    spare = NUM_POSITIONS - 1
    close = {"rtol": 1e-4, "atol": 1e-4, "equal_nan": True}
    torch.testing.assert_close(fused.kv[..., :spare, :], plain.kv[..., :spare, :], **close)
    torch.testing.assert_close(fused.next_input, plain.next_input, **close)
    assert torch.equal(fused.position, plain.position)
    for field in fields(RowSampling):
        assert torch.equal(getattr(fused.sampling, field.name), getattr(plain.sampling, field.name)), field.name


@torch.inference_mode()
@pytest.mark.parametrize("model", CONFIGS, indirect=True)
@pytest.mark.parametrize("changes", [{"greedy": 1}, {}], ids=["greedy", "any mixture"])
def test_frames_are_those_of_the_plain_step(model: Csm, changes: dict[str, float]) -> None:
    num_active = NUM_ROWS - 1
    fused, plain = make_rows(model, num_active, **changes), make_rows(model, num_active, **changes)
    frame = FusedFrame(model, NUM_ROWS)
    for _ in range(2):
        codes = frame(NUM_ROWS, NUM_READABLE, fused)
        assert codes.shape == (NUM_ROWS, model.shape.num_codebooks)
        assert torch.equal(codes[:num_active], plain_frame(model, plain))
    assert_same_state(fused, plain)


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [*row_buckets(64), 65])
def test_every_bucket_of_rows(model: Csm, num_rows: int) -> None:
    """Up to 8 rows, up to 64, and all larger buckets take different kernels."""
    fused, plain = (make_rows(model, num_rows, num_rows) for _ in range(2))
    assert torch.equal(FusedFrame(model, num_rows)(num_rows, NUM_READABLE, fused), plain_frame(model, plain))
    assert_same_state(fused, plain)


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [3, 9])
def test_products_whose_inputs_are_shared_out(model: Csm, monkeypatch: pytest.MonkeyPatch, num_rows: int) -> None:
    """As those of csm-1b are: the next kernel adds up the parts of few rows, one of its own those of more."""
    monkeypatch.setattr(tiles, "_MIN_SPLIT", 16)
    monkeypatch.setattr(tiles, "_KERNEL_BYTES", 0)
    assert tiles.choose_tiles(torch.empty(num_rows, 64), torch.empty(32, 64), may_split=True).splits > 1, "down"
    fused, plain = (make_rows(model, num_rows, num_rows) for _ in range(2))
    assert torch.equal(FusedFrame(model, num_rows)(num_rows, NUM_READABLE, fused), plain_frame(model, plain))
    assert_same_state(fused, plain)


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [1, 9, 65])
def test_quantized_matrices(model: Csm, num_rows: int) -> None:
    model.quantize("int8")
    fused, plain = (make_rows(model, num_rows, num_rows) for _ in range(2))
    assert torch.equal(FusedFrame(model, num_rows)(num_rows, NUM_READABLE, fused), plain_frame(model, plain))
    assert_same_state(fused, plain)


@torch.inference_mode()
def test_rows_that_are_nobodys_write_to_their_spare_position_alone(model: Csm) -> None:
    rows, before = make_rows(model, 0), make_rows(model, 0)
    codes = FusedFrame(model, NUM_ROWS)(NUM_ROWS, NUM_READABLE, rows)
    assert codes.max() < model.shape.codebook_size
    assert_same_state(rows, before)
    assert not rows.kv[..., NUM_POSITIONS - 1, :].isnan().any()


@torch.inference_mode()
def test_a_row_draws_the_same_alone_and_among_mates_that_are_not_numbers(model: Csm) -> None:
    alone, together = make_rows(model, 1), make_rows(model, NUM_ROWS)
    together.next_input[1:] = torch.nan
    frame = FusedFrame(model, NUM_ROWS)
    expected = frame(1, NUM_READABLE, alone)
    assert torch.equal(frame(NUM_ROWS, NUM_READABLE, together)[:1], expected)
