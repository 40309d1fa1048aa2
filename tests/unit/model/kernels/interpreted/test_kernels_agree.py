"""Every kernel computes what its plain form does, whatever the sizes."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from serve_app.model.kernels import attention, check
from serve_app.model.kernels.arguments import Norm, Residual
from serve_app.model.kernels.cases import CASES
from serve_app.model.kernels.check import disagreement, first_failure
from serve_app.model.kernels.inputs import Inputs, Sizes
from serve_app.model.kernels.linear import add_linear
from serve_app.model.kernels.normed import normed_linear
from serve_app.model.matrix import Quantization

CPU = torch.device("cpu")
SMALL = Sizes(
    3,
    hidden=96,
    inner=144,
    num_heads=4,
    num_groups=2,
    head_dim=16,
    num_positions=150,
    num_codebooks=3,
    codebook_size=50,
)
SIZES = {
    "one row, no grouping": replace(SMALL, num_rows=1, num_groups=4, head_dim=64),
    "odd": replace(SMALL, hidden=72, inner=100, head_dim=12, num_heads=6, num_positions=67),
    "wide heads": replace(SMALL, num_rows=2, num_groups=1, head_dim=128, num_positions=130),
}
MATRICES = ("add_linear", "add_attention_output", "normed_linear", "normed_swiglu", "normed_qkv")


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", CASES)
def test_kernel_agrees_with_its_plain_form(name: str, sizes: Sizes) -> None:
    assert disagreement(name, Inputs(CPU, torch.float32, "none"), sizes) is None


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("advance", "draw_codes")])
def test_kernel_agrees_in_bfloat16(name: str) -> None:
    assert disagreement(name, Inputs(CPU, torch.bfloat16, "none"), SMALL) is None


@pytest.mark.parametrize("quantization", ["int8", "fp8"])
@pytest.mark.parametrize("num_rows", [1, 18])
@pytest.mark.parametrize("name", MATRICES)
def test_products_with_quantized_matrices(name: str, num_rows: int, quantization: Quantization) -> None:
    inputs = Inputs(CPU, torch.bfloat16, quantization)
    assert disagreement(name, inputs, replace(SMALL, num_rows=num_rows)) is None


@pytest.mark.parametrize("name", MATRICES)
def test_products_that_are_shared_out_and_those_of_many_rows(name: str) -> None:
    few, some, many = Sizes(2, hidden=48, inner=2100), Sizes(20, hidden=48, inner=4200), Sizes(65, hidden=48, inner=40)
    for sizes in (few, some, many):
        assert disagreement(name, Inputs(CPU, torch.float32, "none"), sizes) is None


def test_logits_of_many_rows_are_not_rounded_to_the_models_type() -> None:
    inputs, logits = Inputs(CPU, torch.bfloat16, "none"), torch.empty(65, 40, dtype=torch.float32)
    x, matrix, norm = inputs.normal(65, 64), inputs.matrix(40, 64), Norm(torch.ones(64), 0.0)
    assert isinstance(matrix, torch.Tensor)
    normed_linear(Residual.of(x), norm, matrix, logits)
    expected = F.rms_norm(x.float(), (64,), eps=0.0) @ matrix.float().T
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_a_product_of_many_rows_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, copied = Inputs(CPU, torch.float32, "none"), []
    monkeypatch.setattr(torch.Tensor, "copy_", lambda *args: copied.append(args))
    add_linear(inputs.normal(65, 40), inputs.normal(65, 48), inputs.matrix(40, 48))
    assert copied == []


def test_rows_at_the_ends_of_their_memory_split_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for num_wanted in (1, 264):
        monkeypatch.setattr(attention, "_WANTED_PROGRAMS", num_wanted)
        for num_positions in (2, 64, 65, 300):
            sizes = replace(SMALL, num_groups=1, num_positions=num_positions)
            assert disagreement("decode_attention", Inputs(CPU, torch.float32, "none"), sizes) is None


def test_check_passes_here_and_names_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(SMALL, num_rows=2)
    assert first_failure(CPU, torch.float32, "int8", [few]) is None
    assert "float64" in str(first_failure(CPU, torch.float64))

    monkeypatch.setattr(check.reference, "normed_swiglu", lambda residual, norm, gate_up: (residual.x, residual.x))
    assert str(first_failure(CPU, torch.float32, "none", [few])).startswith("normed_swiglu with 2 rows: ")
    monkeypatch.setitem(CASES, "rms_norm", lambda *_: 1 / 0)
    assert first_failure(CPU, torch.float32, "none", [few]) == (
        "rms_norm with 2 rows: ZeroDivisionError: division by zero"
    )
