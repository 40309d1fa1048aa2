"""Products of prompts by quantized matrices, against the readable form."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.steps.choice import step_maker
from serve_app.model.checkpoint import load_model, open_checkpoint
from serve_app.model.kv_views import TokenRange
from serve_app.model.matrix import Quantization, QuantizedMatrix, linear, quantize
from serve_app.model.native.multiply import NativeProduct, use_native_products


def random(*sizes: int, seed: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def quantized_matrix(rows: int, cols: int, quantization: Quantization = "int8") -> QuantizedMatrix:
    quantized = quantize(random(rows, cols, seed=1), quantization)
    assert isinstance(quantized, QuantizedMatrix)
    return quantized


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_products_of_any_size(num_threads: int, quantization: Quantization) -> None:
    product = NativeProduct(num_threads)
    for num_rows, cols, rows in ((1, 33, 5), (7, 70, 301), (8, 2048, 64), (19, 12, 1), (3, 8192, 40)):
        matrix, x = quantized_matrix(rows, cols, quantization), random(num_rows, cols, seed=2)
        found = linear(x, replace(matrix, product=product))
        expected = linear(x.double(), matrix)
        # Inputs are rounded to 15 bits of the largest in their row.
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


def test_leading_dimensions_and_type_are_those_of_the_inputs() -> None:
    matrix, x = quantized_matrix(24, 40), random(2, 3, 40, seed=3).bfloat16()
    found = linear(x, replace(matrix, product=NativeProduct(1)))
    assert found.dtype == torch.bfloat16
    assert found.shape == (2, 3, 24)
    torch.testing.assert_close(found.float(), linear(x.float(), matrix), rtol=1e-2, atol=1e-2)


@torch.inference_mode()
def test_a_prompt_is_read_as_by_the_readable_products(tiny_checkpoint_folder: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_checkpoint_folder), None)
    states = []
    for is_native in (False, True):
        model = load_model(checkpoint, torch.device("cpu"), torch.float32, "int8")
        if is_native:
            use_native_products(model, num_threads=1)
        shape = model.shape.backbone
        kv = torch.zeros(shape.num_layers, 2, 1, shape.num_kv_heads, 40, shape.head_dim)
        tokens = torch.arange(30) * 7 % model.shape.text_vocab_size
        states.append(model.prefill(model.embed_text(tokens), kv, [TokenRange(0, 0, 30)]))
    torch.testing.assert_close(*states, rtol=5e-3, atol=5e-3)


def test_the_native_step_brings_them(tiny_checkpoint_folder: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_checkpoint_folder), None)
    for name in ("plain", "native"):
        model = load_model(checkpoint, torch.device("cpu"), torch.float32, "int8")
        ModelRunner(model, 1, 64, make_step=step_maker(name))
        matrices = [block.qkv for block in model.backbone.blocks]
        products = [matrix.product for matrix in matrices if isinstance(matrix, QuantizedMatrix)]
        assert [isinstance(product, NativeProduct) for product in products] == [name == "native"] * 2
