"""Weight-only quantization: what it keeps, and what it costs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.model.checkpoint import Checkpoint, load_model
from serve_app.model.matrix import GROUP_SIZE, Quantization, QuantizedMatrix, linear, quantize, quantize_where_allowed


def matrix() -> torch.Tensor:
    """Rows of very different size, and one of zeros."""
    weights = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    return weights * torch.tensor([1e-3, 1, 50, 1, 0, 1e4])[:, None]


def test_none_is_the_matrix_itself() -> None:
    weights = matrix()
    assert quantize(weights, "none") is weights


@pytest.mark.parametrize(("quantization", "step"), [("int8", 0.5 / 127), ("fp8", 1 / 16)])
def test_each_row_is_rounded_to_its_own_scale(quantization: Quantization, step: float) -> None:
    weights = matrix()
    quantized = quantize(weights, quantization)
    assert isinstance(quantized, QuantizedMatrix)
    assert quantized.values.element_size() == 1
    largest = weights.abs().amax(dim=1, keepdim=True)
    assert ((quantized.dense(torch.float32) - weights).abs() <= step * 1.001 * largest).all()


@pytest.mark.parametrize("quantization", ["int8", "fp8"])
def test_a_product_is_that_of_the_dense_matrix(quantization: Quantization) -> None:
    x, quantized = torch.randn(2, 3, 40), quantize(matrix(), quantization)
    assert isinstance(quantized, QuantizedMatrix)
    sizes = quantized.scales.clamp_min(1e-30)
    expected = F.linear(x, quantized.dense(torch.float32))
    torch.testing.assert_close(linear(x, quantized) / sizes, expected / sizes, rtol=1e-4, atol=1e-2)


def test_int8_keeps_the_extremes_symmetric() -> None:
    quantized = quantize(torch.tensor([[-2.0, 2.0, 1.0, 0.0]]), "int8")
    assert isinstance(quantized, QuantizedMatrix)
    assert quantized.values.tolist() == [[-127, 127, 64, 0]]


def test_int4_rounds_each_group_to_its_own_largest() -> None:
    # A size that is no multiple of two groups.
    weights = torch.randn(5, 70) * torch.tensor([1.0, 10, 0.1, 1e-4, 0])[:, None]
    quantized = quantize(weights, "int4")
    assert isinstance(quantized, QuantizedMatrix)
    assert quantized.values.shape == (5, 64) and quantized.scales.shape == (5, 4)
    found = quantized.dense(torch.float32)
    assert found.shape == weights.shape
    for start in range(0, 70, GROUP_SIZE):
        group = weights[:, start : start + GROUP_SIZE]
        # A step is an eighth of the largest; opposite its sign there are only seven of them.
        limit = group.abs().amax(dim=1, keepdim=True) / 8 * 1.05
        assert ((found[:, start : start + GROUP_SIZE] - group).abs() <= limit).all()


def test_int4_holds_its_own_numbers_exactly() -> None:
    weights = torch.tensor([[-8.0, 7, 3, 0, *range(-8, 8)] + [1.0] * 12 + [-4, 2.5, *[0.5] * 20]]) / 4
    weights = torch.cat((weights, -weights))
    assert torch.equal(quantized_dense(weights, "int4"), weights)


def quantized_dense(weights: Tensor, quantization: Quantization) -> Tensor:
    quantized = quantize(weights, quantization)
    assert isinstance(quantized, QuantizedMatrix)
    return quantized.dense(weights.dtype)


def test_auto_keeps_a_matrix_that_int8_would_change_too_much() -> None:
    usual = torch.randn(8, 256)
    assert isinstance(quantize_where_allowed(usual), QuantizedMatrix)
    assert isinstance(quantize_where_allowed(torch.zeros(8, 256)), QuantizedMatrix)
    for outlier in (20, 1e6):
        one_a_row = usual.clone()
        one_a_row[:, 3] = outlier
        assert quantize_where_allowed(one_a_row) is one_a_row


def test_auto_quantizes_the_model_where_it_is_allowed(tiny_checkpoint: Checkpoint) -> None:
    model = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32, "auto")
    assert model.quantization == "int8"
    assert isinstance(model.backbone.blocks[0].qkv, QuantizedMatrix)
    spoiled = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32)
    kept = spoiled.backbone.blocks[0].down
    assert isinstance(kept, Tensor)
    kept[:, 0] = 1e6
    assert spoiled.quantize_where_allowed() == 1
    assert spoiled.backbone.blocks[0].down is kept


def test_a_quantized_model_keeps_embeddings_heads_and_norms(tiny_checkpoint: Checkpoint) -> None:
    plain = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32)
    model = load_model(tiny_checkpoint, torch.device("cpu"), torch.float32, "int8")
    assert isinstance(model.depth.blocks[0].gate_up, QuantizedMatrix)
    assert isinstance(model.backbone.blocks[-1].qkv, QuantizedMatrix)
    for name in ("first_head", "depth_heads", "audio_embedding", "depth_embedding", "projection"):
        assert torch.equal(getattr(model, name), getattr(plain, name)), name
    assert torch.equal(model.depth.blocks[0].mlp_norm, plain.depth.blocks[0].mlp_norm)
