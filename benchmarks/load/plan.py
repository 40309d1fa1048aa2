"""From the command line to the phases of a run."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile
from random import Random

from benchmarks.load.arrivals import Arrival, BadTrace, gamma, poisson, ramp, steps, trace
from benchmarks.load.client import ClosedPhase, Limit, OpenPhase

_DEFAULT_SECONDS = 20.0


class BadPlan(ValueError):
    """Options that do not go together; the message names them."""


def plan(options: argparse.Namespace, requests_per_session: float) -> Sequence[ClosedPhase | OpenPhase]:
    """Rates are of requests; sessions arrive as many times less often as they hold requests."""
    seconds = options.duration or (None if options.requests else _DEFAULT_SECONDS)
    if options.trace:
        return [_from_trace(options)]
    if not options.rates:
        return [ClosedPhase(level, Limit(seconds, options.requests)) for level in options.concurrency]
    phases = list(_open(options, seconds, requests_per_session))
    if empty := [phase.label for phase in phases if not phase.arrivals]:
        raise BadPlan(f"nothing arrives at {', '.join(empty)}: give a longer --duration")
    return phases


def _open(options: argparse.Namespace, seconds: float | None, per_session: float) -> Iterator[OpenPhase]:
    if options.arrivals != "ramp" and 0 in options.rates:
        raise BadPlan("--rates 0: only a ramp may begin or end there")
    random = Random(options.seed)
    rates = [rate / per_session for rate in options.rates]
    most = max(1, round(options.requests / per_session)) if options.requests else None
    if options.arrivals in ("poisson", "gamma"):
        for asked, rate in zip(options.rates, rates, strict=True):
            times = gamma(rate, options.burstiness, random) if options.arrivals == "gamma" else poisson(rate, random)
            in_time = (Arrival(at, asked) for at in takewhile(lambda at: seconds is None or at < seconds, times))
            yield OpenPhase(f"{asked:g} a second", tuple(islice(in_time, most)))
        return
    seconds = seconds or _DEFAULT_SECONDS
    if options.arrivals == "step":
        label, shape = "steps", steps(rates, seconds, random)
    else:
        if len(rates) != 2 or rates[0] == rates[1]:
            raise BadPlan("--arrivals ramp takes two rates: --rates FIRST,LAST")
        label, shape = "ramp", ramp(rates[0], rates[1], seconds, random)
    yield OpenPhase(label, tuple(islice(_relabelled(shape, per_session), most)))


def _relabelled(arrivals: Iterable[Arrival], per_session: float) -> Iterator[Arrival]:
    return (Arrival(arrival.at, round(arrival.level * per_session, 6)) for arrival in arrivals)


def _from_trace(options: argparse.Namespace) -> OpenPhase:
    try:
        arrivals = trace(options.trace)
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"--trace {options.trace}: {error}") from None
    except BadTrace as error:
        raise BadPlan(f"--trace: {error}") from None
    kept = takewhile(lambda arrival: options.duration is None or arrival.at < options.duration, arrivals)
    return OpenPhase(options.trace.name, tuple(islice(kept, options.requests)))
