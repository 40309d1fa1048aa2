"""When requests are due in an open loop, in seconds from its start. The same generator gives the same times."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

RAMP_LEVELS = 5
"""A ramp's requests are judged in this many parts, each under the rate of its middle."""


@dataclass(frozen=True, slots=True)
class Arrival:
    at: float
    level: float
    """The rate in force, in requests a second."""


class BadTrace(ValueError):
    """A trace file that cannot be replayed; the message names the line."""


def poisson(rate: float, random: Random) -> Iterator[float]:
    """Endless. Users who know nothing of each other."""
    return gamma(rate, 1.0, random)


def gamma(rate: float, burstiness: float, random: Random) -> Iterator[float]:
    """Endless. Gaps of the given mean whose gamma shape is `burstiness`: 1 is Poisson, less comes in bursts, more is
    regular (the convention of vLLM's and vox-serve's benchmarks)."""
    at = 0.0
    while True:
        at += random.gammavariate(burstiness, 1 / (rate * burstiness))
        yield at


def steps(rates: Sequence[float], seconds_each: float, random: Random) -> Iterator[Arrival]:
    """Poisson at each rate in turn, without letting the server rest between them."""
    for number, rate in enumerate(rates):
        for at in poisson(rate, random):
            if at >= seconds_each:
                break
            yield Arrival(number * seconds_each + at, rate)


def ramp(first: float, last: float, seconds: float, random: Random) -> Iterator[Arrival]:
    """Poisson with a rate that goes evenly from `first` to `last`."""
    slope = (last - first) / seconds
    expected_by_end = (first + last) / 2 * seconds
    # Arrivals of rate 1 are when the expected count reaches them.
    for count in poisson(1.0, random):
        if count >= expected_by_end:
            return
        at = count / first if slope == 0 else (math.sqrt(first**2 + 2 * slope * count) - first) / slope
        part = min(int(at / seconds * RAMP_LEVELS), RAMP_LEVELS - 1)
        yield Arrival(at, round(first + (last - first) * (part + 0.5) / RAMP_LEVELS, 6))


def trace(path: Path) -> list[Arrival]:
    """Recorded arrivals: a second a line, rising; empty lines and `#` lines are comments. The first is at once.

    All of one level, their mean rate. Raises BadTrace.
    """
    times: list[float] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            times.append(_seconds(line, f"{path.name}:{number}"))
            if len(times) > 1 and times[-1] < times[-2]:
                raise BadTrace(f"{path.name}:{number}: {times[-1]} is before the line above it")
    if len(times) < 2 or times[-1] == times[0]:
        raise BadTrace(f"{path.name}: at least two arrivals at different times are needed")
    rate = round((len(times) - 1) / (times[-1] - times[0]), 3)
    return [Arrival(at - times[0], rate) for at in times]


def _seconds(line: str, where: str) -> float:
    try:
        at = float(line)
    except ValueError:
        raise BadTrace(f"{where}: {line.strip()!r} is not a number of seconds") from None
    if not math.isfinite(at):
        raise BadTrace(f"{where}: {line.strip()} is no time")
    return at
