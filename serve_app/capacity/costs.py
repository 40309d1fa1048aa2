"""What a stream costs, each with where the figure comes from. docs/scale.md shows and explains them."""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, replace

PREDICTED = "predicted by counting kernels and bytes: no card has run this code"
MEASURED = "measured"


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU, on which a generator and a decoder share the time."""

    name: str
    step_ms: Mapping[int, float]
    """A generator's step by rows, at 512 positions."""
    tick_ms: Mapping[int, float]
    """A decoder's call by streams, one frame of each."""
    prefill_ms: float
    """What a request's prompt adds to the step that reads it, with a voice that is in the prefix cache."""
    source: str

    @property
    def most_rows(self) -> int:
        """The largest batch that the table knows. Nothing is promised beyond it."""
        return max(self.step_ms)

    def frame_ms(self, rows: int) -> float:
        """Milliseconds of the card's time, to make one frame of each of `rows` streams and decode it."""
        return at(self.step_ms, rows) + at(self.tick_ms, rows)


@dataclass(frozen=True, slots=True)
class Path:
    """What a stream costs beside the models, by how Serve's proxy is set up."""

    name: str
    ingress_cores: float
    """Cores of a stream, in the ingress and so on."""
    proxy_cores: float
    decoder_cores: float
    generator_cores: float
    first_byte_ms: float
    """What the graph adds to a request's first byte on an idle machine, at the median."""
    convoy_ms: float
    """Mean of what it adds under load, where chunks of a batch pass the hops together."""

    @property
    def cores(self) -> float:
        return self.ingress_cores + self.proxy_cores + self.decoder_cores + self.generator_cores


_H200 = Card(
    name="h200",
    step_ms={1: 5.4, 32: 6.4, 64: 8.4, 128: 9.6, 256: 13.5},
    tick_ms={1: 3.0, 32: 3.0, 400: 14.0},
    prefill_ms=6.0,
    source=PREDICTED,
)
_READ_MS = {1: 1.9, 32: 2.2, 64: 2.9, 128: 4.2, 256: 7.0}
"""The part of the H200's steps that is reading memory, at 85% of its bandwidth; the rest is starting kernels."""
_H200_TB_PER_SECOND = 4.8


def _by_bandwidth(name: str, tb_per_second: float) -> Card:
    slower = _H200_TB_PER_SECOND / tb_per_second - 1
    steps = {rows: round(ms + slower * _READ_MS[rows], 1) for rows, ms in _H200.step_ms.items()}
    return replace(_H200, name=name, step_ms=steps)


CARDS = {card.name: card for card in (_H200, _by_bandwidth("h100", 3.35), _by_bandwidth("a100", 2.0))}
PATHS = {
    "default": Path("default", 0.0027, 0.0021, 0.0021, 0.0010, 13.5, 11.3),
    "haproxy": Path("haproxy", 0.0012, 0.0, 0.0015, 0.0007, 8.2, 7.6),
}
"""Measured beside a bare process: docs/benchmarks.md, the data path alone. The convoy is the lateness' 99th percentile
at 50 and 100 streams, 52 and 35 ms, as an exponential distribution has it."""
FULL_PROCESS = 0.6
"""Of a core, the most that a process may be busy: bursts take the rest."""


def at(table: Mapping[int, float], rows: int) -> float:
    """Linear between the table's sizes, and constant beyond its ends."""
    sizes = sorted(table)
    place = bisect.bisect_left(sizes, rows)
    if place in (0, len(sizes)):
        return table[sizes[min(place, len(sizes) - 1)]]
    low, high = sizes[place - 1], sizes[place]
    return table[low] + (rows - low) / (high - low) * (table[high] - table[low])


def with_steps(card: Card, step_ms: Mapping[int, float]) -> Card:
    """The card with steps that were measured on it."""
    return replace(card, step_ms=step_ms, source=MEASURED)
