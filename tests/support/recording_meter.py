"""A `metrics.Meter` that remembers, and that minds what an exporter would."""

from collections import defaultdict

from serve_app.metrics import Counter, Gauge, Histogram, Metric


class RecordingMeter:
    """Values by the metric's name; where it has labels, by their values too: `csm_x{eos}`."""

    def __init__(self) -> None:
        self.counted: defaultdict[str, float] = defaultdict(float)
        self.gauges: dict[str, float] = {}
        self.observed: defaultdict[str, list[float]] = defaultdict(list)

    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        assert isinstance(metric, Counter) and amount >= 0
        if amount:
            self.counted[_key(metric, labels)] += amount

    def set(self, metric: Gauge, value: float, **labels: str) -> None:
        assert isinstance(metric, Gauge)
        self.gauges[_key(metric, labels)] = value

    def observe(self, metric: Histogram, value: float, **labels: str) -> None:
        assert isinstance(metric, Histogram) and value >= 0
        self.observed[_key(metric, labels)].append(value)


def _key(metric: Metric, labels: dict[str, str]) -> str:
    assert set(labels) == set(metric.labels), f"{metric.name} has the labels {metric.labels}"
    assert all(isinstance(value, str) for value in labels.values())
    return metric.name + ("{" + ",".join(labels[label] for label in metric.labels) + "}" if labels else "")
