"""Engines under load, step by step: who waits for a slot, who for a step, and what happens while replicas start.

A replica gives its slots to requests in order of arrival, advances all of its rows by a frame a step, and pauses rows
that are far ahead of their listeners, as engine/ does. Requests go to the freest replica, or wait in one line.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import Any

import simpy

from serve_app.messages import FRAME_RATE_HZ

Process = Generator[simpy.Event, Any, None]

FRAME_SECONDS = 1 / FRAME_RATE_HZ


@dataclass(frozen=True, slots=True)
class Engine:
    """What each replica is. `step_ms`: of a step by its rows."""

    slots: int
    step_ms: Callable[[int], float]
    prefill_ms: float = 0.0
    """What each request that is admitted adds to its first step."""
    lead_seconds: float = 10.0
    """`engine.max_lead_seconds`."""
    max_waiting: int = 32
    """Of each replica."""
    max_wait_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Growth:
    """Replicas are added if more than `occupancy` of the slots is asked for, for `delay_seconds`."""

    most: int
    start_seconds: float
    occupancy: float = 0.8
    delay_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    frames: int


@dataclass(slots=True)
class Outcome:
    """What became of the requests that came after the warm-up."""

    first_frame_seconds: list[float] = field(default_factory=list)
    """From arrival to the end of the step that made the first frame."""
    refused: int = 0
    row_seconds: float = 0.0
    """Rows in steps, summed over time."""
    busy_seconds: float = 0.0
    """Of all replicas."""
    replicas: int = 0
    """At the end."""

    def percentile(self, share: float) -> float:
        """Of the waits for the first frame. Infinite where nothing was spoken."""
        waits = sorted(self.first_frame_seconds)
        return waits[min(len(waits) - 1, ceil(share * len(waits)) - 1)] if waits else float("inf")


@dataclass(slots=True)
class _Row:
    request: Request
    made: int = 0
    first_at: float = 0.0

    def resumes_at(self, lead_seconds: float) -> float:
        """When its listener is no further behind than `lead_seconds`."""
        return self.first_at + self.made * FRAME_SECONDS - lead_seconds if self.made else 0.0


class Simulation:
    def __init__(self, engine: Engine, replicas: int, warm_up_seconds: float = 0.0) -> None:
        self.outcome = Outcome()
        self._engine = engine
        self._warm_up = warm_up_seconds
        self._env = simpy.Environment()
        self._line: deque[Request] = deque()
        self._num_starting = 0
        self._replicas = [_Replica(self) for _ in range(replicas)]

    def run(self, requests: Iterable[Request], until: float, growth: Growth | None = None) -> Outcome:
        self._env.process(self._arrive(requests))
        if growth is not None:
            self._env.process(self._grow(growth))
        self._env.run(until)
        self.outcome.replicas = len(self._replicas)
        return self.outcome

    def _arrive(self, requests: Iterable[Request]) -> Process:
        for request in requests:
            if request.at > self._env.now:
                yield self._env.timeout(request.at - self._env.now)
            freest = max(self._replicas, key=lambda replica: replica.free)
            if freest.free and not self._line:
                freest.take(request)
            elif len(self._line) < self._engine.max_waiting * len(self._replicas):
                self._line.append(request)
            else:
                self._refuse(request)

    def _grow(self, growth: Growth) -> Process:
        since: float | None = None
        while True:
            yield self._env.timeout(1.0)
            asked = len(self._line) + sum(replica.taken for replica in self._replicas)
            wanted = min(growth.most, ceil(asked / (growth.occupancy * self._engine.slots)))
            missing = wanted - len(self._replicas) - self._num_starting
            if missing <= 0:
                since = None
            elif since is None:
                since = self._env.now
            elif self._env.now - since >= growth.delay_seconds:
                since = None
                for _ in range(missing):
                    self._env.process(self._start(growth.start_seconds))

    def _start(self, seconds: float) -> Process:
        self._num_starting += 1
        yield self._env.timeout(seconds)
        self._num_starting -= 1
        self._replicas.append(_Replica(self))

    def _refuse(self, request: Request) -> None:
        if request.at >= self._warm_up:
            self.outcome.refused += 1

    def _next(self) -> Request | None:
        """The first of the line who has not waited for too long."""
        while self._line:
            request = self._line.popleft()
            if self._env.now - request.at <= self._engine.max_wait_seconds:
                return request
            self._refuse(request)
        return None


class _Replica:
    def __init__(self, simulation: Simulation) -> None:
        self._all = simulation
        self._env = simulation._env
        self._engine = simulation._engine
        self._rows: list[_Row] = []
        self._num_new = 0
        self._news = self._env.event()
        self._env.process(self._work())

    @property
    def taken(self) -> int:
        return len(self._rows)

    @property
    def free(self) -> int:
        return self._engine.slots - len(self._rows)

    def take(self, request: Request) -> None:
        self._rows.append(_Row(request))
        self._num_new += 1
        if not self._news.triggered:
            self._news.succeed()

    def _work(self) -> Process:
        lead, outcome = self._engine.lead_seconds, self._all.outcome
        while True:
            self._fill()
            ready = [row for row in self._rows if row.resumes_at(lead) <= self._env.now]
            if not ready:
                self._news = self._env.event()
                soonest = min((row.resumes_at(lead) for row in self._rows), default=None)
                rest = [] if soonest is None else [self._env.timeout(max(1e-4, soonest - self._env.now))]
                yield self._env.any_of([self._news, *rest])
                continue
            ms = self._engine.step_ms(len(ready)) + self._num_new * self._engine.prefill_ms
            self._num_new = 0
            yield self._env.timeout(ms / 1000)
            outcome.busy_seconds += ms / 1000
            outcome.row_seconds += len(ready) * ms / 1000
            self._advance(ready)

    def _fill(self) -> None:
        while self.free and (request := self._all._next()) is not None:
            self.take(request)

    def _advance(self, ready: list[_Row]) -> None:
        now = self._env.now
        for row in ready:
            row.made += 1
            if row.made == 1:
                row.first_at = now
                if row.request.at >= self._all._warm_up:
                    self._all.outcome.first_frame_seconds.append(now - row.request.at)
        self._rows = [row for row in self._rows if row.made < row.request.frames]


def arrivals(
    rate: Callable[[float], float], seconds: float, mean_frames: float, burstiness: float, random: Random
) -> Iterator[Request]:
    """Gamma arrivals (burstiness 1 is Poisson, less comes in bursts) of answers of exponential lengths.

    rate: requests a second at a time.
    """
    now = 0.0
    while True:
        now += random.gammavariate(burstiness, 1 / (rate(now) * burstiness))
        if now >= seconds:
            return
        yield Request(now, max(1, round(random.expovariate(1 / mean_frames))))
