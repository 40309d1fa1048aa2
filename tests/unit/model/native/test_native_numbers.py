"""How near the smaller number types come, on hidden states: what one step leaves behind in the rows' memory."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from serve_app.model.adapters.low_rank import PARTS, STACKS, Change, LoadedAdapter, part_sizes
from serve_app.model.csm import Csm
from serve_app.model.matrix import Quantization, QuantizedMatrix
from tests.support.native_rows import Rows, make_model, make_rows

CONFIG = "larger than a chunk"


def written(model: Csm, rows: Rows, adapters: Sequence[LoadedAdapter | None] = ()) -> Tensor:
    """Keys and values [layers, 2, R, G, D] of the position that a step computes, in float32."""
    rows = rows.clone()
    positions = rows.position.clone()
    rows.native(model).step(len(positions), adapters)
    return torch.stack([rows.kv[:, :, row, :, position] for row, position in enumerate(positions)], dim=2).float()


def cosine(a: Tensor, b: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a.flatten(2), b.flatten(2), dim=-1).min().item()


def dense(model: Csm, dtype: torch.dtype, config: str = CONFIG) -> Csm:
    """The plain model that `model`'s quantized matrices stand for."""
    other = make_model(config, dtype)
    for ours, theirs in ((model.backbone, other.backbone), (model.depth, other.depth)):
        for block, plain in zip(ours.blocks, theirs.blocks, strict=True):
            for name in ("qkv", "out", "gate_up", "down"):
                matrix = getattr(block, name)
                assert isinstance(matrix, QuantizedMatrix)
                getattr(plain, name).copy_(matrix.dense(dtype))
    return other


@pytest.mark.parametrize("num_rows", [1, 4, 7])
@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_quantized_matrices_compute_what_they_stand_for(num_rows: int, quantization: Quantization) -> None:
    model = make_model(CONFIG)
    model.quantize(quantization)
    rows = make_rows(model, num_rows).with_sampling(greedy=True)
    reference = dense(model, torch.float32)
    found, expected = written(model, rows), written(reference, rows)
    assert cosine(found, expected) > 1 - 1e-6
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("num_rows", [1, 4, 7])
def test_bfloat16_stays_near_float32(num_rows: int) -> None:
    exact, rough = make_model(CONFIG), make_model(CONFIG, torch.bfloat16)
    rows = make_rows(rough, num_rows)
    wide = Rows(rows.kv.float(), rows.next_input.float(), rows.position, rows.sampling)
    assert cosine(written(rough, rows), written(exact, wide)) > 0.999


@pytest.mark.parametrize(("quantization", "nearness"), [("int8", 0.998), ("int4", 0.9)])
def test_quantized_in_bfloat16_stays_near_bfloat16(quantization: Quantization, nearness: float) -> None:
    model = make_model(CONFIG, torch.bfloat16)
    rows = make_rows(model, 4)
    expected = written(model, rows)
    model.quantize(quantization)
    assert cosine(written(model, rows), expected) > nearness


def test_the_largest_weights_and_inputs_do_not_overflow() -> None:
    model = make_model("wider than an integer sum")
    model.quantize("int8")
    for block in model.backbone.blocks:
        assert isinstance(block.gate_up, QuantizedMatrix) and isinstance(block.down, QuantizedMatrix)
        # All outputs equal, so each is the largest.
        block.gate_up.values[:] = block.gate_up.values[0].clone()
        block.gate_up.scales.fill_(1e-3)
        block.down.values.fill_(127)
        block.down.scales.copy_(torch.linspace(1e-7, 1e-5, len(block.down.scales)))
    rows = make_rows(model, 3)
    expected = written(dense(model, torch.float32, "wider than an integer sum"), rows)
    torch.testing.assert_close(written(model, rows), expected, rtol=2e-3, atol=2e-3)


def random_adapter(model: Csm, rank: int) -> LoadedAdapter:
    stacks = {}
    for stack in STACKS:
        transformer = getattr(model, stack)
        rows, columns = part_sizes(transformer.shape)
        stacks[stack] = tuple(
            {
                matrix: Change(
                    (0.1 * torch.randn(len(parts) * rank, columns[matrix])).to(model.dtype),
                    (0.1 * torch.randn(sum(rows[matrix]), rank)).to(model.dtype),
                    tuple(torch.tensor(rows[matrix]).cumsum(0).tolist()),
                )
                for matrix, parts in PARTS.items()
            }
            for _ in transformer.blocks
        )
    return LoadedAdapter("random", rank, **stacks)


def merge(model: Csm, adapter: LoadedAdapter) -> None:
    for stack in STACKS:
        for block, changes in zip(getattr(model, stack).blocks, getattr(adapter, stack), strict=True):
            for name, change in changes.items():
                matrix = getattr(block, name)
                matrix += change.of(torch.eye(matrix.shape[1], dtype=matrix.dtype)).T


@pytest.mark.parametrize("rank", [5, 8])
@pytest.mark.parametrize("config", ["odd sizes", "no grouping"])
def test_adapters_of_any_rank_and_parts_of_any_size(config: str, rank: int) -> None:
    """Parts end amid the sixteen rows that are added at once."""
    torch.manual_seed(rank)
    model, merged = make_model(config), make_model(config)
    adapter = random_adapter(model, rank)
    merge(merged, adapter)
    rows = make_rows(model, 5).with_sampling(greedy=True)
    torch.testing.assert_close(written(model, rows, [adapter] * 5), written(merged, rows), rtol=1e-4, atol=1e-4)
    codes = [
        rows.clone().native(model).step(5, [adapter] * 5),
        rows.clone().native(merged).step(5),
    ]
    assert codes[0].equal(codes[1])


@pytest.mark.parametrize("rank", [5, 8])
def test_adapters_in_bfloat16_stay_near_float32(rank: int) -> None:
    torch.manual_seed(rank)
    exact, rough = make_model("odd sizes"), make_model("odd sizes", torch.bfloat16)
    adapter = random_adapter(rough, rank)
    merge(exact, adapter.on(torch.device("cpu"), torch.float32))
    rows = make_rows(rough, 5)
    wide = Rows(rows.kv.float(), rows.next_input.float(), rows.position, rows.sampling)
    assert cosine(written(rough, rows, [adapter] * 5), written(exact, wide)) > 0.999
