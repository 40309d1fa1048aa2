"""Seed, sampling and length, with the conventions of other servers."""

from typing import Any

import pytest

from serve_app.errors import InvalidRequest
from serve_app.messages import MAX_SEED
from serve_app.settings import LimitSettings, SamplingSettings
from serve_app.speech.knobs import max_audio_seconds_of, sampling_of, seed_of
from tests.support.fakes import INFO

LIMITS = LimitSettings(max_audio_seconds=30)


def sampled(defaults: SamplingSettings | None = None, **given: Any) -> tuple[Any, tuple[str, ...]]:
    return sampling_of(given, INFO, defaults or SamplingSettings())


@pytest.mark.parametrize(("asked", "seed"), [(None, None), (-1, None), (0, 0), (MAX_SEED, MAX_SEED)])
def test_no_seed_and_minus_one_are_chance(asked: int | None, seed: int | None) -> None:
    assert seed_of(asked) == seed


@pytest.mark.parametrize("seed", [-2, MAX_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(InvalidRequest, match="leave it out, or send -1, for chance"):
        seed_of(seed)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_temperature_zero_is_greedy(zero: float) -> None:
    params, remarks = sampled(temperature=zero, greedy=False)
    assert (params.greedy, remarks) == (True, ())
    assert params.temperature == SamplingSettings().temperature


@pytest.mark.parametrize("off", [0, -1])
def test_top_k_off_draws_from_the_whole_codebook(off: int) -> None:
    params, remarks = sampled(top_k=off)
    assert (params.top_k, remarks) == (INFO.codebook_size, ())


def test_a_top_k_above_the_codebook_is_lowered_with_a_remark() -> None:
    params, remarks = sampled(top_k=INFO.codebook_size + 1)
    assert params.top_k == INFO.codebook_size
    assert remarks == (f"top_k: lowered to {INFO.codebook_size}, the size of a codebook",)


def test_a_repetition_penalty_below_one_is_off_with_a_remark() -> None:
    params, remarks = sampled(repetition_penalty=0.9)
    assert params.repetition_penalty == 1
    assert [remark.partition(";")[0] for remark in remarks] == [
        "repetition_penalty: raised to 1, which switches it off"
    ]


def test_a_default_above_the_codebook_is_no_fault_of_the_caller() -> None:
    params, remarks = sampled(SamplingSettings(top_k=9999))
    assert (params.top_k, remarks) == (INFO.codebook_size, ())


@pytest.mark.parametrize(
    "given",
    [{"temperature": -1}, {"temperature": 5.1}, {"temperature": float("nan")}, {"top_k": -2}, {"top_p": 0},
     {"repetition_penalty": -0.9}],
    ids=str,
)  # fmt: skip
def test_a_value_without_a_meaning_is_refused_by_name(given: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sampled(**given)
    assert refused.value.field == next(iter(given))


@pytest.mark.parametrize("asked", [31, 1e300, float("inf")])
def test_a_length_above_the_limit_is_lowered_with_a_remark(asked: float) -> None:
    assert max_audio_seconds_of(asked, LIMITS) == (
        30, ("max_audio_seconds: lowered to 30, the limit of this server",),
    )  # fmt: skip


def test_a_length_within_the_limit_is_kept() -> None:
    assert max_audio_seconds_of(30, LIMITS) == (30, ())
    assert max_audio_seconds_of(None, LIMITS) == (30, ())


@pytest.mark.parametrize("asked", [0, -1, float("nan")])
def test_a_length_that_is_none_is_refused(asked: float) -> None:
    with pytest.raises(InvalidRequest, match="must be above 0 and at most 30"):
        max_audio_seconds_of(asked, LIMITS)
