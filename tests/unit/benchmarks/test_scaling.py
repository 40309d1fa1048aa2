"""Figures of the scaling runs, from requests whose times are known."""

import pytest

from benchmarks.common.records import Chunk, Record
from benchmarks.scaling.__main__ import heard_seconds
from benchmarks.scaling.load_step import figures, first_time, last_change


def record(sent_at: float, *chunks: tuple[float, float]) -> Record:
    found = tuple(Chunk(at, seconds) for at, seconds in chunks)
    return Record("r", "sentence", 4, False, sent_at, sent_at, 200, None, 5, found, 9.0)


def test_audio_counts_by_when_it_came_and_not_by_when_it_was_asked_for() -> None:
    records = [record(10.0, (1.0, 0.5), (4.0, 2.0)), record(13.0, (0.5, 1.0), (8.0, 9.0))]
    assert heard_seconds(records, 3.0, 10.0) == 3.0


def test_replicas_come_at_their_first_sight_and_the_last_change_is_that_of_the_most() -> None:
    seen = [(-1.0, 1), (2.04, 1), (5.06, 2), (9.0, 3), (9.5, 2), (10.0, 3)]
    assert [first_time(seen, number) for number in (2, 3, 4)] == [5.1, 9.0, None]
    assert last_change(seen) == 9.0


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ([], {"requests": 0, "refused": 0}),
        ([(0.0, None)], {"requests": 1, "refused": 1}),
        ([(0.0, 0.1), (1.0, None), (2.0, 0.3)], {"requests": 3, "refused": 1, "ttfa_p50_ms": 200, "ttfa_p95_ms": 300}),
    ],
)
def test_who_was_refused_has_no_first_audio(heard: list[tuple[float, float | None]], expected: dict[str, int]) -> None:
    assert figures(heard) == expected
