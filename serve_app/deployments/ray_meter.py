"""`metrics.Meter` on Ray's exporter, which puts `ray_` before each name and adds deployment and replica."""

from typing import Any

from ray.serve import metrics as ray_metrics

from serve_app.metrics import ALL, Counter, Gauge, Histogram, Metric


class RayMeter:
    """The meter of one replica. Ray gathers values in the process and collects them every ten seconds."""

    def __init__(self) -> None:
        self._counters = {metric.name: _counter(metric) for metric in ALL if isinstance(metric, Counter)}
        self._gauges = {metric.name: _gauge(metric) for metric in ALL if isinstance(metric, Gauge)}
        self._histograms = {metric.name: _histogram(metric) for metric in ALL if isinstance(metric, Histogram)}

    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        if amount:  # Ray does not take 0
            self._counters[metric.name].inc(amount, labels)

    def set(self, metric: Gauge, value: float, **labels: str) -> None:
        self._gauges[metric.name].set(value, labels)

    def observe(self, metric: Histogram, value: float, **labels: str) -> None:
        self._histograms[metric.name].observe(value, labels)


def _counter(metric: Counter) -> ray_metrics.Counter:
    return ray_metrics.Counter(metric.name, _description(metric), _tag_keys(metric))


def _gauge(metric: Gauge) -> ray_metrics.Gauge:
    return ray_metrics.Gauge(metric.name, _description(metric), _tag_keys(metric))


def _histogram(metric: Histogram) -> ray_metrics.Histogram:
    return ray_metrics.Histogram(metric.name, _description(metric), list(metric.buckets), _tag_keys(metric))


def _tag_keys(metric: Metric) -> Any:
    """The labels. Ray takes any number of them, but its annotation says one."""
    return metric.labels


def _description(metric: Metric) -> str:
    return f"{metric.description} ({metric.unit})"
