"""Draws are compared with the softmax they must follow, by chi-square at one in a hundred thousand."""

from dataclasses import fields, replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from serve_app.model.sampling import (
    REPETITION_WINDOW_FRAMES,
    FrameSampler,
    RowSampling,
    SamplingPlan,
    negative_gumbel,
    noise_keys,
)

NUM_CODEBOOKS = 4
CODEBOOK_SIZE = 24
RESERVED = 3
NUM_DRAWS = 20_000
PLAN = SamplingPlan(
    CODEBOOK_SIZE, one_top_k=False, any_greedy=False, all_greedy=False, any_top_p=True, any_penalty=True
)


def make_rows(num_rows: int, **changes: float | Tensor) -> RowSampling:
    """Rows that differ in their seeds alone, past the first frames, without filters."""

    def column(name: str, default: float, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(changes.get(name, default)).to(dtype).expand(num_rows)

    no_history = torch.full((num_rows, REPETITION_WINDOW_FRAMES, NUM_CODEBOOKS), -1)
    return RowSampling(
        temperature=column("temperature", 1.0),
        top_k=column("top_k", CODEBOOK_SIZE, torch.int64),
        top_p=column("top_p", 1.0),
        repetition_penalty=column("repetition_penalty", 1.0),
        greedy=column("greedy", 0, torch.bool),
        seed=torch.as_tensor(changes.get("seed", torch.arange(num_rows))).to(torch.int64).expand(num_rows),
        min_frames=column("min_frames", 0, torch.int64),
        frame=column("frame", 5, torch.int64),
        history=torch.as_tensor(changes.get("history", no_history)),
    )


def draw(rows: RowSampling, logits: Tensor, codebook: int = 1, plan: SamplingPlan = PLAN) -> Tensor:
    sampler = FrameSampler(rows, plan, NUM_CODEBOOKS, CODEBOOK_SIZE)
    return sampler.draw(codebook, logits.expand(rows.seed.shape[0], -1))


@pytest.fixture
def logits() -> Tensor:
    """Of one row; the reserved ids would win every draw."""
    logits = torch.randn(1, CODEBOOK_SIZE + RESERVED, generator=torch.Generator().manual_seed(11))
    logits[:, CODEBOOK_SIZE:] = 50.0
    return logits


def softmax(logits: Tensor, keep: Tensor | None = None) -> Tensor:
    logits = logits[0, :CODEBOOK_SIZE].double()
    return (logits if keep is None else logits.masked_fill(~keep, -torch.inf)).softmax(dim=0)


def assert_follows(codes: Tensor, probabilities: Tensor) -> None:
    counts = torch.bincount(codes, minlength=CODEBOOK_SIZE)
    possible = probabilities > 0
    assert not counts[~possible].any(), "a code that was filtered out was drawn"
    # Cells with few expected draws are thrown together: the test's approximation needs at least five.
    common = possible & (probabilities * len(codes) >= 5)
    rest = possible & ~common
    observed = [*counts[common].tolist(), counts[rest].sum().item()]
    expected = [*(probabilities[common] * len(codes)).tolist(), (probabilities[rest].sum() * len(codes)).item()]
    if not rest.any():
        observed, expected = observed[:-1], expected[:-1]
    if len(expected) == 1:
        return  # Nothing is left to chance, and nothing else was drawn.
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("codebook", [0, 3])
def test_draws_follow_the_softmax_at_a_temperature(logits: Tensor, temperature: float, codebook: int) -> None:
    codes = draw(make_rows(NUM_DRAWS, temperature=temperature), logits, codebook)
    assert_follows(codes, softmax(logits / temperature))


@pytest.mark.parametrize("top_k", [1, 2, 9])
def test_draws_follow_the_softmax_of_the_top_k(logits: Tensor, top_k: int) -> None:
    threshold = logits[0, :CODEBOOK_SIZE].topk(top_k).values[-1]
    codes = draw(make_rows(NUM_DRAWS, top_k=top_k), logits)
    assert_follows(codes, softmax(logits, logits[0, :CODEBOOK_SIZE] >= threshold))


@pytest.mark.parametrize("top_p", [1e-6, 0.4, 0.8])
@pytest.mark.parametrize("top_k", [5, CODEBOOK_SIZE])
def test_draws_follow_the_softmax_of_the_smallest_set_that_holds_top_p(
    logits: Tensor, top_p: float, top_k: int
) -> None:
    probabilities = softmax(logits, logits[0, :CODEBOOK_SIZE] >= logits[0, :CODEBOOK_SIZE].topk(top_k).values[-1])
    order = probabilities.argsort(descending=True)
    size = int((probabilities[order].cumsum(0) < top_p).sum()) + 1
    keep = torch.zeros(CODEBOOK_SIZE, dtype=torch.bool)
    keep[order[:size]] = True
    codes = draw(make_rows(NUM_DRAWS, top_p=top_p, top_k=top_k), logits)
    assert_follows(codes, softmax(logits, keep))


def test_recent_codes_of_the_same_codebook_are_penalised(logits: Tensor) -> None:
    history = torch.full((REPETITION_WINDOW_FRAMES, NUM_CODEBOOKS), -1)
    history[0, 1], history[40, 1], history[41, 1] = 3, 8, 8
    history[:, 2] = 5
    penalised = logits.clone()
    for code in (3, 8):
        penalised[0, code] = logits[0, code] / 1.8 if logits[0, code] > 0 else logits[0, code] * 1.8
    rows = make_rows(NUM_DRAWS, repetition_penalty=1.8, history=history.expand(NUM_DRAWS, -1, -1))
    assert_follows(draw(rows, logits), softmax(penalised))


def test_reserved_ids_are_never_drawn(logits: Tensor) -> None:
    for plan in (PLAN, replace(PLAN, all_greedy=True), replace(PLAN, any_greedy=True)):
        assert draw(make_rows(1000, greedy=1.0), logits, plan=plan).max() < CODEBOOK_SIZE


def test_end_of_speech_waits_for_min_frames(logits: Tensor) -> None:
    logits[0, 0] = 40.0
    early, due = make_rows(500, frame=3, min_frames=4), make_rows(500, frame=4, min_frames=4)
    greedy = replace(PLAN, all_greedy=True)
    assert draw(early, logits, 0).min() > 0
    assert draw(early, logits, 0, greedy).min() > 0
    assert draw(due, logits, 0).max() == 0
    assert draw(early, logits, 1).max() == 0, "only the first codebook can rule the end out"


def test_greedy_rows_take_the_likeliest_and_leave_their_mates_to_chance(logits: Tensor) -> None:
    greedy = torch.arange(NUM_DRAWS) % 2 == 0
    codes = draw(make_rows(NUM_DRAWS, greedy=greedy), logits, plan=replace(PLAN, any_greedy=True))
    assert (codes[greedy] == logits[0, :CODEBOOK_SIZE].argmax()).all()
    assert_follows(codes[~greedy], softmax(logits))


def test_a_row_draws_the_same_alone_and_among_any_mates() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(16, CODEBOOK_SIZE, generator=generator, dtype=torch.float64)
    temperature, top_k = torch.linspace(0.5, 1.5, 16), torch.arange(1, 17)
    together = draw(make_rows(16, temperature=temperature, top_k=top_k), logits)
    for row in range(16):
        mine = make_rows(1, temperature=temperature[row], top_k=top_k[row], seed=row)
        # Whoever is alone also has a narrower plan.
        plan = replace(PLAN, max_top_k=row + 1, one_top_k=True, any_top_p=False, any_penalty=False)
        assert draw(mine, logits[row : row + 1], plan=plan) == together[row]


def test_rows_codebooks_and_frames_draw_independently(logits: Tensor) -> None:
    flat = torch.zeros_like(logits)
    first = draw(make_rows(NUM_DRAWS), flat)
    others = {
        "codebook": draw(make_rows(NUM_DRAWS), flat, codebook=2),
        "frame": draw(make_rows(NUM_DRAWS, frame=6), flat),
        "neighbour": first.roll(1),
    }
    for name, other in others.items():
        table = torch.bincount(first * CODEBOOK_SIZE + other, minlength=CODEBOOK_SIZE**2)
        result = stats.chi2_contingency(table.reshape(CODEBOOK_SIZE, CODEBOOK_SIZE).numpy())
        assert result.pvalue > 1e-5, name


def test_frames_of_one_seed_follow_the_softmax_too(logits: Tensor) -> None:
    codes = draw(make_rows(NUM_DRAWS, seed=42, frame=torch.arange(NUM_DRAWS)), logits)
    assert_follows(codes, softmax(logits))


def test_noise_is_standard_gumbel() -> None:
    keys = noise_keys(torch.arange(200), torch.zeros(200, dtype=torch.int64), NUM_CODEBOOKS).flatten()
    noise = -negative_gumbel(keys, torch.arange(500).expand(len(keys), -1)).flatten()
    assert noise.dtype == torch.float64
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(torch.pi**2 / 6, rel=0.02)
    assert stats.kstest(noise[::7].numpy(), stats.gumbel_r.cdf).pvalue > 1e-5


def test_large_seeds_are_told_apart() -> None:
    seeds = torch.tensor([0, 1, 2**62, 2**63 - 1])
    keys = noise_keys(seeds, torch.zeros(4, dtype=torch.int64), NUM_CODEBOOKS)
    assert len(set(keys.flatten().tolist())) == 4 * NUM_CODEBOOKS


def test_first_rows_and_tensors_hold_every_field() -> None:
    rows = make_rows(3)
    first = rows.first_rows(2)
    names = [field.name for field in fields(RowSampling)]
    for name, tensor in zip(names, rows.tensors(), strict=True):
        assert tensor is getattr(rows, name)
        assert getattr(first, name).shape == (2, *tensor.shape[1:])
        assert getattr(first, name).data_ptr() == tensor.data_ptr()
