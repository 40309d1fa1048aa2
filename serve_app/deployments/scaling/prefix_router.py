"""Which replica of the token generator: first the one that has read the request's voice before.

Serve takes this class to every process that calls the deployment (`request_router_config`). Nothing is shared between
them and nothing remembered: a voice's places follow from its name and the replicas' names alone, so that all callers
agree, and a replica that comes or goes moves only the voices that it gets or had.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from serve_app.errors import StartupError
from serve_app.messages import GenerationRequest

_NUM_PLACES = 2
"""Replicas that read a voice. The second takes what the first cannot, so that it too has read it when it matters."""
CAPACITY = "capacity"
"""What a replica reports to Serve for its callers (`record_routing_stats`): slots that may be taken, as measured."""
_NUM_ASKED = 4
"""Its places and others, drawn by chance: the least busy of a few is close to the least busy of all."""


@dataclass(frozen=True, slots=True)
class RoutingRules:
    """What a voice's place may take on. Raises StartupError for numbers that make no sense."""

    slots: int
    """Requests that a replica runs at once: a place with so many is full."""
    slack: int | None = None
    """By so many requests a place may be busier than other replicas; a quarter of the slots where it is not given."""

    def __post_init__(self) -> None:
        if self.slots < 1 or self.most_ahead < 0:
            raise StartupError(
                f"request_router_kwargs: slots {self.slots} must be 1 or more, slack {self.slack} 0 or more"
            )

    @property
    def most_ahead(self) -> int:
        return max(1, self.slots // 4) if self.slack is None else self.slack

    def within(self, capacity: float | None) -> "RoutingRules":
        """Of a replica that says how many of its slots may be taken: to those beyond it nobody is let in."""
        return self if capacity is None else replace(self, slots=max(1, min(self.slots, int(capacity))))


class PrefixRouter(RequestRouter):
    """Prefers a voice's own replicas while they have room and are not clearly busier than others.

    Keyword arguments (`request_router_kwargs`) are those of `RoutingRules`.
    """

    def initialize_state(  # pyright: ignore[reportIncompatibleMethodOverride] Serve passes what the config holds
        self, *, slots: int, slack: int | None = None
    ) -> None:
        """Called by Serve."""
        self._rules = RoutingRules(slots, slack)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One replica a rank, the best first."""
        if pending_request is not None:
            # Otherwise Serve asks again without a pause where all are full.
            pending_request.routing_context.should_backoff = True
        request = _request(pending_request)
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        places = _places(request, list(by_name))
        others = [name for name in by_name if name not in places]
        asked = places + random.sample(others, min(_NUM_ASKED - len(places), len(others)))
        loads = await self._loads([by_name[name] for name in asked])
        rules = {name: self._rules.within(by_name[name].routing_stats.get(CAPACITY)) for name in places}
        return [[by_name[name]] for name in ranked(places, loads, rules)]

    async def _loads(self, replicas: Sequence[RunningReplica]) -> dict[str, int]:
        """Requests that each runs or keeps waiting; without those that do not answer."""
        loads = {replica.replica_id: self.replica_queue_len_cache.get(replica.replica_id) for replica in replicas}
        unknown = [replica for replica in replicas if loads[replica.replica_id] is None]
        loads |= {replica.replica_id: load for replica, load in await self._probe_queue_lens(unknown, 0)}
        return {replica_id.unique_id: load for replica_id, load in loads.items() if load is not None}

    def _fulfill_next_pending_request(self, replica: RunningReplica, request_metadata: Any = None) -> None:
        """Give the replica to the very request that it was chosen for.

        Serve looks for that by the id of the HTTP request, and never finds the second of two calls that share one.
        """
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                self._cancel_routing_task_for_pending_request(pending)
                self._record_queue_wait_time(pending)
                pending.future.set_result(replica)
                self._remove_pending_request_from_indices(pending)
                super().on_send_request(replica.replica_id)
                return

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Called by Serve. It was counted when the replica was chosen: of requests that come together, later ones are
        chosen for before the first is sent, and all would find the same replica idle."""


def ranked(places: Sequence[str], loads: Mapping[str, int], rules: Mapping[str, RoutingRules]) -> list[str]:
    """The replicas of `loads`, best first: a place with room that is not clearly busier than the least busy one, then
    by load. `rules` are those of each place."""
    by_load = sorted(loads, key=loads.__getitem__)
    for place in places:
        if place in loads and _is_free(loads[place], loads[by_load[0]], rules[place]):
            return [place] + [name for name in by_load if name != place]
    return by_load


def places_of(voice: bytes, replicas: Iterable[str]) -> list[str]:
    """All of them in this voice's own order (rendezvous hashing)."""
    return sorted(replicas, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8, key=voice).digest())


def voice_of(request: GenerationRequest) -> bytes | None:
    """A name for what its prompt begins with: the first anchor, or else the first clip. None where there is neither."""
    segment = next((s for s in request.context if s.anchor), next(iter(request.context), None))
    if segment is None:
        return None
    return hashlib.blake2b(segment.codes.data, digest_size=16, key=segment.text.encode()[:64]).digest()


def _is_free(load: int, least: int, rules: RoutingRules) -> bool:
    return load < rules.slots and load - least <= rules.most_ahead


def _places(request: GenerationRequest | None, replicas: Iterable[str]) -> list[str]:
    # One that was kept waiting goes where the line is shortest: to read its voice takes less than to wait on.
    if request is None or request.waited_seconds or (voice := voice_of(request)) is None:
        return []
    order = places_of(voice, replicas)
    # One that was lost under it may look alive for a while: the next in order is asked instead.
    skipped = request.num_lost % len(order)
    return (order[skipped:] + order[:skipped])[:_NUM_PLACES]


def _request(pending_request: PendingRequest | None) -> GenerationRequest | None:
    first = next(iter(pending_request.args), None) if pending_request is not None else None
    return first if isinstance(first, GenerationRequest) else None
