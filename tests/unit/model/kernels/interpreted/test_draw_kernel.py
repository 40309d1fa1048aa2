"""The drawing kernel takes the codes that FrameSampler takes, whatever each row asks for."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from serve_app.model.kernels import fused, reference
from serve_app.model.kernels.arguments import Codebook
from serve_app.model.kernels.inputs import Inputs, Sizes
from serve_app.model.sampling import RowSampling

CPU = torch.device("cpu")
SIZES = Sizes(1, num_codebooks=2, codebook_size=40)


def draw(operations: object, logits: Tensor, sampling: RowSampling, codebook: int = 1) -> Tensor:
    codes = torch.full((len(logits), SIZES.num_codebooks), -1)
    operations.draw_codes(logits, sampling, Codebook(codebook, SIZES.codebook_size), codes)
    assert (codes[:, 1 - codebook] == -1).all()
    return codes[:, codebook]


def rows(num_rows: int, **changes: float) -> RowSampling:
    """Rows that differ in their seeds alone, without filters, but for `changes`."""
    sampling = Inputs(CPU, torch.float32, "none").sampling(replace(SIZES, num_rows=num_rows))
    plain = {"temperature": 1.0, "top_k": SIZES.codebook_size, "top_p": 1.0, "repetition_penalty": 1.0, "greedy": 0}
    values = {**plain, "frame": 5, "min_frames": 0, **changes}
    return replace(
        sampling, **{name: torch.full_like(getattr(sampling, name), value) for name, value in values.items()}
    )


def normal(num_rows: int, scale: float = 3.0) -> Tensor:
    logits = scale * torch.randn(num_rows, SIZES.codebook_size + 3, generator=torch.Generator().manual_seed(1))
    logits[:, SIZES.codebook_size :] = 50.0
    return logits


@pytest.mark.parametrize("codebook", [0, 1])
def test_rows_that_ask_for_any_mixture(codebook: int) -> None:
    sizes = replace(SIZES, num_rows=40)
    sampling, logits = Inputs(CPU, torch.float32, "none", seed=codebook).sampling(sizes), normal(40)
    assert torch.equal(draw(fused, logits, sampling, codebook), draw(reference, logits, sampling, codebook))


@pytest.mark.parametrize(
    "changes",
    [
        {"top_k": 1},
        {"top_k": 7, "temperature": 0.05},
        {"top_p": 1e-6},
        {"top_p": 0.5, "top_k": 9},
        {"top_p": 0.999},
        {"repetition_penalty": 1.7},
        {"repetition_penalty": 0.6, "greedy": 1},
        {"min_frames": 6},
        {"seed": -1},
        {"seed": 2**63 - 1, "frame": 2**40},
    ],
    ids=str,
)
def test_rows_that_ask_for_one_thing(changes: dict[str, float]) -> None:
    sampling, logits = rows(4, **changes), normal(4)
    logits[:, 0] = logits.amax(dim=1) if "min_frames" in changes else logits[:, 0]
    for codebook in (0, 1):
        assert torch.equal(draw(fused, logits, sampling, codebook), draw(reference, logits, sampling, codebook))


def test_logits_of_any_type_and_stride_and_sign() -> None:
    sampling = rows(8, top_k=5)
    for logits in (normal(8, 1e-20), normal(8, 1e20), -normal(8).abs(), normal(16)[::2]):
        assert torch.equal(draw(fused, logits, sampling), draw(reference, logits, sampling))
    few = normal(8).half()
    assert torch.equal(draw(fused, few, rows(8)), draw(reference, few, rows(8)))


def test_equal_logits_stand_or_fall_together() -> None:
    logits = torch.zeros(1, SIZES.codebook_size + 3)
    logits[:, 3], logits[:, [5, 8, 13]] = 2.0, 1.9
    logits = logits.expand(20, -1)
    for filters in ({"top_k": 2}, {"top_k": 4}, {"top_p": 0.2}):
        assert set(draw(fused, logits, rows(20, **filters)).tolist()) == {3, 5, 8, 13}, filters
    assert set(draw(fused, logits, rows(20, top_k=1)).tolist()) == {3}
    assert draw(fused, logits[:, 4:], rows(20, greedy=1)).unique().tolist() == [1], "the first of equals"


def test_a_code_is_drawn_whatever_the_logits_are() -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        for sampling in (rows(3, greedy=1), rows(3, top_k=4, top_p=0.7)):
            codes = draw(fused, torch.full((3, SIZES.codebook_size + 3), value), sampling)
            assert codes.min() >= 0
            assert codes.max() < SIZES.codebook_size


def test_nothing_that_a_row_asks_for_is_changed() -> None:
    sampling = Inputs(CPU, torch.float32, "none").sampling(replace(SIZES, num_rows=4))
    before = {f.name: getattr(sampling, f.name).clone() for f in fields(sampling)}
    draw(fused, normal(4), sampling)
    assert all(torch.equal(getattr(sampling, name), value) for name, value in before.items())
