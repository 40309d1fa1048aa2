"""The processes by their statistics, and traces by their lines."""

import statistics
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest

from benchmarks.load.arrivals import BadTrace, gamma, poisson, ramp, steps, trace


def gaps(times: Iterator[float], number: int) -> list[float]:
    return [after - before for before, after in pairwise(islice(times, number))]


@pytest.mark.parametrize("rate", [0.5, 20.0])
def test_poisson_gaps_have_the_rates_mean_and_as_much_spread(rate: float) -> None:
    found = gaps(poisson(rate, Random(1)), 20_000)
    assert statistics.mean(found) == pytest.approx(1 / rate, rel=0.03)
    assert statistics.stdev(found) == pytest.approx(1 / rate, rel=0.03)


def test_poisson_counts_vary_as_much_as_they_are() -> None:
    per_second = Counter(int(at) for at in islice(poisson(4.0, Random(2)), 40_000))
    counts = [per_second[second] for second in range(max(per_second))]
    assert statistics.variance(counts) == pytest.approx(statistics.mean(counts), rel=0.06)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 16.0])
def test_gamma_keeps_the_rate_and_spreads_by_burstiness(burstiness: float) -> None:
    found = gaps(gamma(5.0, burstiness, Random(3)), 40_000)
    assert statistics.mean(found) == pytest.approx(0.2, rel=0.04)
    assert statistics.stdev(found) / statistics.mean(found) == pytest.approx(burstiness**-0.5, rel=0.04)


def test_steps_follow_each_other_with_their_own_rates() -> None:
    arrivals = list(steps([10, 100, 1], 50.0, Random(4)))
    counts = Counter(arrival.level for arrival in arrivals)
    assert [counts[10] / 50, counts[100] / 50, counts[1] / 50] == pytest.approx([10, 100, 1], rel=0.25)
    for arrival in arrivals:
        assert arrival.level == [10, 100, 1][int(arrival.at // 50)]
    assert arrivals == sorted(arrivals, key=lambda arrival: arrival.at)


@pytest.mark.parametrize(("first", "last"), [(0.0, 200.0), (200.0, 0.0), (20.0, 180.0)])
def test_a_ramps_density_goes_evenly_from_first_to_last(first: float, last: float) -> None:
    arrivals = list(ramp(first, last, 100.0, Random(5)))
    assert len(arrivals) == pytest.approx((first + last) / 2 * 100, rel=0.05)
    assert arrivals[0].at >= 0 and arrivals[-1].at <= 100
    for level, count in Counter(arrival.level for arrival in arrivals).items():
        # A fifth of the time each, under the rate of its middle.
        assert count / 20 == pytest.approx(level, rel=0.15)


def test_a_level_ramp_is_poisson() -> None:
    assert len(list(ramp(50.0, 50.0, 40.0, Random(6)))) == pytest.approx(2000, rel=0.1)


def test_a_seed_gives_the_same_times_again() -> None:
    assert gaps(gamma(3, 0.5, Random(7)), 50) == gaps(gamma(3, 0.5, Random(7)), 50)
    assert gaps(gamma(3, 0.5, Random(7)), 50) != gaps(gamma(3, 0.5, Random(8)), 50)


def test_a_trace_begins_at_once_and_has_its_mean_rate(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("# seconds\n10\n10.5\n\n10.5\n12\n")
    arrivals = trace(path)
    assert [arrival.at for arrival in arrivals] == [0, 0.5, 0.5, 2]
    assert {arrival.level for arrival in arrivals} == {1.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\ntwo\n", "trace.txt:2: 'two' is not a number of seconds"),
        ("2\n1\n", "trace.txt:2: 1.0 is before the line above it"),
        ("nan\n1\n", "trace.txt:1: nan is no time"),
        ("1\n", "at least two arrivals"),
        ("", "at least two arrivals"),
        ("1\n1\n", "at least two arrivals at different times"),
    ],
    ids=["no number", "backwards", "nan", "one", "empty", "all at once"],
)
def test_a_trace_that_cannot_be_replayed_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(BadTrace, match=said):
        trace(path)
