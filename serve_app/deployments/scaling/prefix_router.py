"""Routes a request to the token generator replica that has read its voice before.

Serve runs this class in every process that calls the deployment (`request_router_config`). The routers share no state.
The preferred replicas of a voice follow from the voice's name and the replicas' names (rendezvous hashing). So all
callers agree, and a replica that starts or stops moves its own voices only.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ray.serve.request_router import PendingRequest, RunningReplica

from serve_app.deployments.ray_private import ExactRequestRouter
from serve_app.errors import StartupError
from serve_app.messages import GenerationRequest

_NUM_PLACES = 2
"""Preferred replicas of a voice. The second takes over when the first is full, so it should know the voice too."""
CAPACITY = "capacity"
"""Name of the figure that a replica reports to routers (`record_routing_stats`): usable slots, as measured."""
ADAPTERS = "adapters"
"""Likewise: the names of the adapters that it holds."""
_OCCUPANCY = 0.8
_NUM_ASKED = 4
"""Replicas whose load is compared, the preferred ones and random others. The least busy of a few is nearly the least
busy of all."""


@dataclass(frozen=True, slots=True)
class RoutingRules:
    """How much load a preferred replica may have. Raises StartupError for impossible numbers."""

    slots: int
    """Requests that a replica runs at once."""
    occupancy: float = _OCCUPANCY
    """A preferred replica takes requests of its voices while fewer than this share of its slots is taken. The rest is
    for the requests that callers send at the same moment: they do not see one another's."""

    def __post_init__(self) -> None:
        if self.slots < 1 or not 0 < self.occupancy <= 1:
            raise StartupError(
                f"request_router_kwargs: slots {self.slots} must be 1 or more, occupancy {self.occupancy} above 0 and "
                "at most 1"
            )

    def has_room(self, load: int) -> bool:
        return load < self.occupancy * self.slots

    def within(self, capacity: float | None) -> "RoutingRules":
        """The same rules for a replica that reports how many of its slots are usable."""
        return self if capacity is None else replace(self, slots=max(1, min(self.slots, int(capacity))))


class PrefixRouter(ExactRequestRouter):
    """Prefers the replicas that know the voice while they have room.

    Keyword arguments (`request_router_kwargs`) are those of `RoutingRules`.
    """

    def initialize_state(  # pyright: ignore[reportIncompatibleMethodOverride] Serve passes what the config holds
        self, *, slots: int, occupancy: float = _OCCUPANCY
    ) -> None:
        """Called by Serve."""
        self._rules = RoutingRules(slots, occupancy)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One replica a rank, the best first."""
        if pending_request is not None:
            # Without it, Serve asks again without a pause while all replicas are full.
            pending_request.routing_context.should_backoff = True
        if len(candidate_replicas) == 1:
            return [candidate_replicas]
        request = _request(pending_request)
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        places = _places(request, list(by_name), lambda name: by_name[name].routing_stats.get(ADAPTERS, ()))
        others = [name for name in by_name if name not in places]
        asked = places + random.sample(others, min(_NUM_ASKED - len(places), len(others)))
        loads = await self._loads([by_name[name] for name in asked])
        rules = {name: self._rules.within(by_name[name].routing_stats.get(CAPACITY)) for name in places}
        return [[by_name[name]] for name in ranked(places, loads, rules)]

    async def _loads(self, replicas: Sequence[RunningReplica]) -> dict[str, int]:
        """Requests that each replica runs or keeps waiting, without the replicas that do not answer."""
        lengths = await self.queue_lengths(replicas)
        return {replica_id.unique_id: load for replica_id, load in lengths.items() if load is not None}


def ranked(places: Sequence[str], loads: Mapping[str, int], rules: Mapping[str, RoutingRules]) -> list[str]:
    """The replicas of `loads`, best first: a preferred one with room, then the others by load.

    places: the preferred replicas, in order. rules: of each preferred replica.
    """
    by_load = sorted(loads, key=loads.__getitem__)
    for place in places:
        if place in loads and rules[place].has_room(loads[place]):
            return [place] + [name for name in by_load if name != place]
    return by_load


def places_of(voice: bytes, replicas: Iterable[str]) -> list[str]:
    """All replicas in this voice's own order (rendezvous hashing)."""
    return sorted(replicas, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8, key=voice).digest())


def voice_of(request: GenerationRequest) -> bytes | None:
    """A name for the adapter and the beginning of the prompt: the first anchor, or else the first clip.

    None where there is neither.
    """
    segment = next((s for s in request.context if s.anchor), next(iter(request.context), None))
    adapter = request.adapter.key if request.adapter else b""
    if segment is None:
        return adapter or None
    return hashlib.blake2b(adapter + segment.codes.data, digest_size=16, key=segment.text.encode()[:64]).digest()


def _places(
    request: GenerationRequest | None, replicas: Iterable[str], held: Callable[[str], Iterable[str]] = lambda name: ()
) -> list[str]:
    """`held`: names of the adapters that a replica holds."""
    # A request that already waited goes to the least busy replica: reading its voice anew is faster than waiting.
    if request is None or request.waited_seconds or request.was_refused or (voice := voice_of(request)) is None:
        return []
    order = places_of(voice, replicas)
    if (adapter := request.adapter) is not None:
        # The sort is stable: among those that hold the adapter, and among the others, the order stays.
        order.sort(key=lambda name: adapter.name not in held(name))
    # A replica that this stream has lost may look alive for a while, so it is skipped.
    skipped = request.num_lost % len(order)
    return (order[skipped:] + order[:skipped])[:_NUM_PLACES]


def _request(pending_request: PendingRequest | None) -> GenerationRequest | None:
    first = next(iter(pending_request.args), None) if pending_request is not None else None
    return first if isinstance(first, GenerationRequest) else None
