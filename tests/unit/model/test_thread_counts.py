"""Threads by default: those of generator and decoder together are no more than the machine has cores."""

import os

import pytest

from serve_app.model.processor import num_threads


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(request.param)))
    return request.param


@pytest.mark.parametrize(("cores", "each"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (16, 8)], indirect=["cores"])
def test_generator_and_decoder_share_the_cores(cores: int, each: int) -> None:
    assert num_threads(0) == each
    assert cores == 1 or 2 * each <= cores


@pytest.mark.parametrize("cores", [2], indirect=True)
def test_a_number_that_is_set_is_taken_as_it_is(cores: int) -> None:
    assert num_threads(3) == 3
