"""Several engines in turn, and what comes out as rows."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from benchmarks.engine.floor import Bandwidth, step_bytes
from benchmarks.engine.precision import Precision
from serve_app.model.shape import CsmShape

ROUNDS = 3
"""Neighbours on a shared machine disturb everybody: all are measured in turn, this often, and the median taken."""
_FRAME_MS = 80.0
_THEIR_STEPS = 6
"""A round, at most: one of theirs costs many of ours, and varies little."""


class Stepper(Protocol):
    engine: str
    variant: str

    def frame_ms(self, batch: int, kv: int, num_steps: int) -> list[float]:
        """Of each step."""
        ...


class Cell(NamedTuple):
    batch: int
    kv: int
    """Positions that a step reads of each row."""


class _Key(NamedTuple):
    preset: str
    engine: str
    variant: str
    dtype: str
    cell: Cell


class Rounds:
    """Collects times; transformers' in bfloat16 may come from several turns."""

    def __init__(self, bandwidth: Bandwidth) -> None:
        """`bandwidth` may become more exact while this is in use."""
        self._bandwidth = bandwidth
        self._times: defaultdict[_Key, list[float]] = defaultdict(list)
        self._bytes: dict[_Key, int] = {}
        self._speed_ups: dict[_Key, float] = {}

    def measure(
        self,
        preset: str,
        shape: CsmShape,
        steppers: Sequence[tuple[Precision, Stepper]],
        cell: Cell,
        num_steps: int,
    ) -> None:
        """`num_steps` of everybody in each round."""
        keys = [_Key(preset, one.engine, one.variant, precision.name, cell) for precision, one in steppers]
        rounds: dict[_Key, list[float]] = {key: [] for key in keys}
        for _ in range(ROUNDS):
            for key, (_, stepper) in zip(keys, steppers, strict=True):
                asked = num_steps if stepper.engine == "csm-serve" else min(num_steps, _THEIR_STEPS)
                rounds[key].append(statistics.median(stepper.frame_ms(*cell, asked)))
        for key, (precision, _) in zip(keys, steppers, strict=True):
            self._times[key] += rounds[key]
            self._bytes[key] = step_bytes(shape, precision, *cell, self._bandwidth.cache_bytes)
        self._compare(rounds)

    def rows(self) -> list[dict[str, Any]]:
        """One for each engine, variant, type and cell; `speed_up` is over transformers' best of the same rounds."""
        return [self._row(key, statistics.median(times)) for key, times in self._times.items()]

    def _compare(self, rounds: dict[_Key, list[float]]) -> None:
        theirs = _medians(rounds, "transformers")
        for key, ours in zip(_keys(rounds, "csm-serve"), _medians(rounds, "csm-serve"), strict=True):
            if theirs:
                self._speed_ups[key] = min(theirs) / ours

    def _row(self, key: _Key, ms: float) -> dict[str, Any]:
        speed_up = self._speed_ups.get(key)
        return {
            "preset": key.preset,
            "engine": key.engine,
            "variant": key.variant,
            "dtype": key.dtype,
            "batch": key.cell.batch,
            "kv": key.cell.kv,
            "ms_per_step": round(ms, 3),
            "frames_per_s": round(key.cell.batch * 1000 / ms, 2),
            "real_time_factor": round(ms / _FRAME_MS, 4),
            "floor_share": round(self._bandwidth.floor_ms(self._bytes[key]) / ms, 4),
            "speed_up": None if speed_up is None else round(speed_up, 2),
        }


def _keys(rounds: Iterable[_Key], engine: str) -> list[_Key]:
    return [key for key in rounds if key.engine == engine]


def _medians(rounds: dict[_Key, list[float]], engine: str) -> list[float]:
    return [statistics.median(rounds[key]) for key in _keys(rounds, engine)]
