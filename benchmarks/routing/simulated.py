"""What routing by voice costs a cluster's slowest requests: the server's own router in a simulated cluster.

    python -m benchmarks.routing.simulated --generators 200 --decoders 100

Every decoder holds a router, as in Serve, and the routers share nothing. Voices are asked for by Zipf's law, requests
arrive by chance, and a generator with all slots taken keeps requests waiting in order. Only the cluster is simulated:
the routers are `PrefixRouter` and Serve's power of two choices, with Serve's cache of queue lengths, on a clock that
the simulation moves. About a minute for the numbers above.
"""

import argparse
import asyncio
import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, count
from typing import Any

import numpy as np
from ray.serve.request_router import ReplicaID
from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.routing.routers import Router, replica_id
from serve_app.deployments.scaling.prefix_router import places_of, voice_of
from serve_app.messages import Codes, ContextSegment, GenerationRequest

ROUTERS = {"power of two choices": False, "by voice": True}
_FIGURES = {
    "requests": "requests",
    "had to wait": "waited_share",
    "wait, p95 s": "wait_p95_seconds",
    "wait, p99 s": "wait_p99_seconds",
    "at a place of their voice": "at_place_share",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster and its load. `fullness` is the share of all slots that requests take on average."""

    generators: int
    decoders: int
    slots: int = 32
    voices: int = 200
    fullness: float = 0.8
    stream_seconds: float = 10.0
    seconds: float = 40.0
    warm_up_seconds: float = 20.0
    seed: int = 0


@dataclass(slots=True)
class _Stream:
    arrived_at: float
    seconds: float
    router: Router
    is_at_place: bool
    waited: float = 0.0


class _Generator:
    """As much of Serve's `RunningReplica` as routers use, with slots and a line of requests that wait."""

    max_ongoing_requests = 1_000_000
    node_id = availability_zone = "one"
    multiplexed_model_ids: frozenset[str] = frozenset()

    def __init__(self, number: int) -> None:
        self.replica_id = replica_id(number)
        self.routing_stats: dict[str, float] = {}
        self.running = 0
        self.line: deque[_Stream] = deque()

    @property
    def load(self) -> int:
        return self.running + len(self.line)

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return self.load


@dataclass(slots=True)
class Simulation:
    cluster: Cluster
    by_voice: bool
    now: float = 0.0
    started: list[_Stream] = field(default_factory=list[_Stream])
    """Streams that arrived after the warm-up and have begun to run."""
    _ends: list[tuple[float, int, _Generator, _Stream]] = field(
        default_factory=list[tuple[float, int, _Generator, _Stream]]
    )
    _numbers: "count[int]" = field(default_factory=count)

    async def run(self) -> dict[str, Any]:
        cluster, chance = self.cluster, random.Random(self.cluster.seed)
        random.seed(cluster.seed)  # the routers' own
        generators = {(each := _Generator(number)).replica_id: each for number in range(cluster.generators)}
        routers = [
            Router(self.by_voice, cluster.slots, list(generators.values()), lambda: self.now)
            for _ in range(cluster.decoders)
        ]
        requests, weights = _voices(cluster)
        places = [_places(request, generators) for request in requests]
        rate = cluster.generators * cluster.slots * cluster.fullness / cluster.stream_seconds
        while self.now < cluster.warm_up_seconds + cluster.seconds:
            self._move_to(self.now + chance.expovariate(rate))
            (voice,) = chance.choices(range(cluster.voices), cum_weights=weights)
            router = chance.choice(routers)
            chosen = generators[await router.choose(requests[voice])]
            seconds = chance.uniform(0.5, 1.5) * cluster.stream_seconds
            chosen.line.append(_Stream(self.now, seconds, router, chosen.replica_id in places[voice]))
            router.began(chosen.replica_id, chosen.load)
            self._start(chosen)
        return self._figures()

    def _start(self, generator: _Generator) -> None:
        while generator.line and generator.running < self.cluster.slots:
            stream = generator.line.popleft()
            stream.waited = self.now - stream.arrived_at
            generator.running += 1
            heapq.heappush(self._ends, (self.now + stream.seconds, next(self._numbers), generator, stream))
            if stream.arrived_at > self.cluster.warm_up_seconds:
                self.started.append(stream)

    def _move_to(self, moment: float) -> None:
        while self._ends and self._ends[0][0] <= moment:
            self.now, _, generator, stream = heapq.heappop(self._ends)
            generator.running -= 1
            stream.router.ended(generator.replica_id)
            self._start(generator)
        self.now = moment

    def _figures(self) -> dict[str, Any]:
        waits = [stream.waited for stream in self.started]
        p95, p99 = (round(float(np.percentile(waits, q)), 3) for q in (95, 99))
        num = len(waits)
        return {
            "requests": num,
            "waited_share": round(sum(wait > 0 for wait in waits) / num, 4),
            "wait_p95_seconds": p95,
            "wait_p99_seconds": p99,
            "at_place_share": round(sum(stream.is_at_place for stream in self.started) / num, 4),
        }


def _voices(cluster: Cluster) -> tuple[list[GenerationRequest], list[float]]:
    """A request of each voice, and cumulated weights by Zipf's law."""
    codes = [Codes.from_array(np.full((2, 32), 1 + number)) for number in range(cluster.voices)]
    requests = [GenerationRequest("r", "Hello.", 0, (ContextSegment("a voice", 0, each, True),)) for each in codes]
    return requests, list(accumulate(1 / (1 + number) for number in range(cluster.voices)))


def _places(request: GenerationRequest, generators: dict[ReplicaID, _Generator]) -> set[ReplicaID]:
    """The two replicas that the voice prefers."""
    voice, by_name = voice_of(request), {each.unique_id: each for each in generators}
    assert voice is not None
    return {by_name[name] for name in places_of(voice, by_name)[:2]}


def main() -> None:
    options = _parser().parse_args()
    cluster = Cluster(options.generators, options.decoders, fullness=options.fullness, seed=options.seed)
    rows = [
        {"router": name, **asdict(cluster), **asyncio.run(Simulation(cluster, by_voice).run())}
        for name, by_voice in ROUTERS.items()
    ]
    console = Console(width=120, highlight=False)
    console.print(_table(rows))
    command = (
        f"python -m benchmarks.routing.simulated --generators {options.generators} --decoders {options.decoders} "
        f"--fullness {options.fullness}"
    )
    console.print(f"saved as {results_file.write(f'routing-simulated-{options.generators}', 'cpu', rows, command)}")


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    found = Table("router", *_FIGURES)
    for row in rows:
        found.add_row(row["router"], *(str(row[name]) for name in _FIGURES.values()))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generators", type=int, default=12)
    parser.add_argument("--decoders", type=int, default=12)
    parser.add_argument("--fullness", type=float, default=0.8, help="share of all slots that requests take")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
