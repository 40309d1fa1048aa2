"""Every metric is described in one file, is written by somebody, and stands in the docs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app import metrics
from serve_app.metrics import Counter, Gauge, Histogram, Metric

ROOT = Path(__file__).parents[2]
BASE_UNITS = {"seconds", "ratio", "requests", "sequences", "streams", "slots", "frames", "positions", "clips"} | {
    "jobs",
    "webhooks",
    "utterances",
    "replicas",
}


def used() -> Iterator[tuple[Path, str]]:
    """`metrics.NAME` wherever it is written."""
    for path in (ROOT / "serve_app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "metrics":
                yield path, node.attr


@pytest.mark.parametrize("metric", metrics.ALL, ids=lambda metric: metric.name)
def test_a_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.name.startswith("csm_")
    assert metric.name.endswith("_total") == isinstance(metric, Counter)
    assert metric.unit in BASE_UNITS
    assert metric.description.endswith(".") and "|" not in metric.description
    if metric.unit == "seconds":
        assert "_seconds" in metric.name
    if isinstance(metric, Histogram):
        assert metric.buckets and list(metric.buckets) == sorted(set(metric.buckets)) and metric.buckets[0] > 0


def test_names_are_given_once() -> None:
    assert len({metric.name for metric in metrics.ALL}) == len(metrics.ALL) > 20
    assert {type(metric) for metric in metrics.ALL} == {Counter, Gauge, Histogram}


def test_every_metric_that_is_written_exists_and_the_other_way_round() -> None:
    names = {name for _, name in used() if name.isupper()}
    defined = {name for name, value in vars(metrics).items() if isinstance(value, Metric)}
    assert names == defined, names ^ defined


def test_every_metric_is_in_the_list_of_all() -> None:
    assert tuple(value for value in vars(metrics).values() if isinstance(value, Metric)) == metrics.ALL
