"""Where requests go: to the replica that has read their voice, while it has room; with Serve's own router around it."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, RequestMetadata
from ray.serve._private.constants import REQUEST_ROUTING_STATS_METHOD
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest

from serve_app.deployments.options import deployment_options
from serve_app.deployments.own_generator import OwnGenerator
from serve_app.deployments.scaling.prefix_router import (
    ADAPTERS,
    CAPACITY,
    PrefixRouter,
    RoutingRules,
    _places,
    places_of,
    ranked,
    voice_of,
)
from serve_app.deployments.token_generator import TokenGeneratorDeployment
from serve_app.engine.stats import EngineStats
from serve_app.errors import StartupError
from serve_app.messages import AdapterRef, Codes, ContextSegment, GenerationRequest
from serve_app.settings import Settings

SLOTS = 8
RULES = RoutingRules(slots=SLOTS)


def voice(number: int, *, anchor: bool = True) -> ContextSegment:
    codes = Codes.from_array(np.random.default_rng(number).integers(1, 2000, (20, 32)))
    return ContextSegment("as it was said", 1, codes, anchor)


def asks(*context: ContextSegment, num_lost: int = 0, waited_seconds: float = 0.0) -> GenerationRequest:
    return GenerationRequest("r", "Hello.", 0, context, num_lost=num_lost, waited_seconds=waited_seconds)


class Replica:
    """As much of Serve's `RunningReplica` as is used."""

    max_ongoing_requests = 48

    def __init__(self, name: str, load: int = 0) -> None:
        self.replica_id = ReplicaID(name, DeploymentID("TokenGenerator", "csm"))
        self.load = load
        self.routing_stats: dict[str, float] = {}
        self.is_dead = False
        self.num_asked = 0

    @property
    def name(self) -> str:
        return self.replica_id.unique_id

    async def get_queue_len(self, *, deadline_s: float) -> int:
        self.num_asked += 1
        await asyncio.sleep(0)
        if self.is_dead:
            raise ActorDiedError
        return self.load


class Graph:
    """A caller's router over replicas, and what it makes of requests."""

    def __init__(self, num_replicas: int) -> None:
        self.replicas = [Replica(f"replica-{number}") for number in range(num_replicas)]
        self.now = 0.0
        self.router = PrefixRouter(
            deployment_id=DeploymentID("TokenGenerator", "csm"),
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
            get_curr_time_s=lambda: self.now,
        )
        self.router.initialize_state(slots=SLOTS)
        self.update()

    def update(self) -> None:
        self.router.update_replicas(list(self.replicas))  # type: ignore[arg-type]

    async def route(self, *args: Any, http_request: str = "") -> Replica:
        """Chosen, and one request busier from now on."""
        number = random.getrandbits(64)
        metadata = RequestMetadata(request_id="r", internal_request_id=http_request or str(number))
        pending = PendingRequest(args=list(args), kwargs={}, metadata=metadata)
        chosen: Any = await self.router._choose_replica_for_request(pending)
        chosen.load += 1
        self.router.on_send_request(chosen.replica_id)
        return chosen

    def end(self, replica: Replica) -> None:
        replica.load -= 1
        self.router.decrement_queue_len_cache(replica.replica_id)


async def test_a_voice_goes_to_one_replica_and_voices_spread() -> None:
    graph = Graph(4)
    served: dict[int, set[str]] = {number: set() for number in range(60)}
    for number in list(served) * 3:
        replica = await graph.route(asks(voice(number)))
        served[number].add(replica.name)
        graph.end(replica)
    assert all(len(names) == 1 for names in served.values())
    assert min(Counter(name for names in served.values() for name in names).values()) >= 6


async def test_one_popular_voice_makes_no_hot_spot() -> None:
    graph = Graph(4)
    for _ in range(4 * SLOTS):
        await graph.route(asks(voice(1)))
    loads = [replica.load for replica in graph.replicas]
    assert loads == [SLOTS] * 4


async def test_nor_does_it_where_all_its_requests_come_at_once() -> None:
    graph = Graph(4)
    await asyncio.sleep(0.01)  # the router has asked all of them by then
    await asyncio.gather(*(graph.route(asks(voice(1))) for _ in range(3 * SLOTS)))
    assert max(replica.load for replica in graph.replicas) <= SLOTS


class Measured:
    held_adapters: tuple[str, ...] = ()

    async def stats(self) -> EngineStats:
        return EngineStats(running=1, waiting=2, slots=SLOTS, capacity=3)


async def test_a_replica_reports_what_it_measured_by_the_method_that_serve_asks() -> None:
    # Without the model that their own making loads.
    replica = TokenGeneratorDeployment.__new__(TokenGeneratorDeployment)
    replica._generator = OwnGenerator.__new__(OwnGenerator)
    replica._generator._service = Measured()  # pyright: ignore[reportAttributeAccessIssue]
    assert await getattr(replica, REQUEST_ROUTING_STATS_METHOD)() == {CAPACITY: 3, ADAPTERS: ()}


async def test_a_place_is_full_where_the_measured_step_time_says_so() -> None:
    graph = Graph(3)
    for replica in graph.replicas:
        replica.routing_stats = {CAPACITY: 1}
    for _ in graph.replicas:
        await graph.route(asks(voice(1)))
    assert [replica.load for replica in graph.replicas] == [1, 1, 1]


async def test_one_that_was_kept_waiting_goes_where_the_line_is_shortest() -> None:
    graph = Graph(3)
    place = await graph.route(asks(voice(1)))
    assert await graph.route(asks(voice(1))) is place
    assert await graph.route(asks(voice(1), waited_seconds=2.0)) is not place
    assert await graph.route(replace(asks(voice(1)), was_refused=True)) is not place


async def test_requests_without_a_voice_go_where_least_is_done() -> None:
    graph = Graph(3)
    for _ in range(12):
        await graph.route(asks())
    await graph.route()  # a call that is no generation
    assert sorted(replica.load for replica in graph.replicas) == [4, 4, 5]


async def test_all_callers_agree_and_a_replica_that_comes_takes_its_share_only() -> None:
    names = [f"replica-{number}" for number in range(5)]
    voices = [voice_of(asks(voice(number))) for number in range(200)]
    before = [places_of(one, names[:4])[0] for one in voices if one]
    after = [places_of(one, reversed(names))[0] for one in voices if one]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"replica-4"}
    assert 20 <= len(moved) <= 60


async def test_a_stream_whose_replica_was_lost_goes_elsewhere_though_it_looks_alive() -> None:
    graph = Graph(3)
    first, second, third = [await graph.route(asks(voice(1), num_lost=lost)) for lost in range(3)]
    assert {first.name, second.name, third.name} == {"replica-0", "replica-1", "replica-2"}
    assert await graph.route(asks(voice(1), num_lost=3)) is first


async def test_a_replica_that_is_dead_is_passed_over_and_forgotten() -> None:
    graph = Graph(3)
    await asyncio.sleep(0.01)  # the router has asked all of them by then
    first = await graph.route(asks(voice(1)))
    first.is_dead = True
    graph.router.on_replica_actor_unavailable(first.replica_id)
    assert await graph.route(asks(voice(1))) is not first
    assert first.replica_id not in graph.router.curr_replicas


async def test_where_every_replica_is_full_a_request_waits_for_the_first_that_is_not() -> None:
    graph = Graph(2)
    for replica in graph.replicas:
        replica.load = replica.max_ongoing_requests
    waiting = asyncio.create_task(graph.route(asks(voice(1))))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    graph.replicas[1].load = 0
    assert await asyncio.wait_for(waiting, 5) is graph.replicas[1]


async def test_two_calls_of_one_http_request_both_get_theirs() -> None:
    graph = Graph(3)
    calls = [graph.route(asks(voice(number)), http_request="the same") for number in range(8)]
    chosen = await asyncio.wait_for(asyncio.gather(*calls), 5)
    for number, replica in enumerate(chosen):
        names = [other.name for other in graph.replicas]
        name = voice_of(asks(voice(number)))
        assert name and places_of(name, names)[0] == replica.name


@pytest.mark.parametrize(
    ("loads", "best"),
    [
        ({"a": 0, "b": 0, "c": 0}, "a"),
        ({"a": 6, "b": 0, "c": 0}, "a"),
        ({"a": 7, "b": 6, "c": 0}, "b"),
        ({"a": 7, "b": 7, "c": 0}, "c"),
        ({"a": 7, "b": 8, "c": 9}, "a"),
        ({"b": 1, "c": 0}, "b"),
        ({"c": 5}, "c"),
    ],
    ids=["idle", "busy", "at 80%", "both at 80%", "all busy", "one silent", "both silent"],
)
def test_a_place_is_preferred_while_it_has_room(loads: dict[str, int], best: str) -> None:
    order = ranked(["a", "b"], loads, {"a": RULES, "b": RULES})
    assert order[0] == best
    assert sorted(order) == sorted(loads)


def test_a_voice_is_named_by_its_first_anchor_and_not_by_what_was_said_since() -> None:
    clip, old = voice(1), voice(2, anchor=False)
    assert voice_of(asks(clip)) == voice_of(asks(old, clip)) == voice_of(asks(clip, voice(3)))
    assert voice_of(asks(old)) not in (None, voice_of(asks(clip)))
    assert voice_of(asks()) is None


def test_the_generators_are_routed_by_it_as_serve_carries_it() -> None:
    options = deployment_options(Settings())["TokenGenerator"]["request_router_config"]
    config = RequestRouterConfig(**options)
    assert config.request_router_kwargs == {"slots": Settings().engine.max_batch_size}
    assert cloudpickle.loads(config.get_serialized_request_router_cls() or b"").__name__ == "PrefixRouter"


@pytest.mark.parametrize(("capacity", "room"), [(None, 7), (4, 4), (1, 1), (0, 1), (99, 7)])
def test_a_replica_has_no_more_room_than_it_says(capacity: float | None, room: int) -> None:
    rules = RoutingRules(slots=8).within(capacity)
    assert sum(map(rules.has_room, range(20))) == room


async def test_a_lone_replica_is_not_asked_how_busy_it_is() -> None:
    graph = Graph(1)
    await asyncio.sleep(0.01)  # the router asks new replicas once
    graph.replicas[0].num_asked = 0
    for _ in range(3):
        await graph.route(asks(voice(1)))
        await graph.route(asks())
    assert graph.replicas[0].num_asked == 0


async def test_a_load_is_known_for_a_second() -> None:
    graph = Graph(4)
    await asyncio.sleep(0.01)
    place = await graph.route(asks(voice(1)))
    place.load = SLOTS  # by other callers
    assert await graph.route(asks(voice(1))) is place
    graph.now += 1.1
    place.load = SLOTS
    assert await graph.route(asks(voice(1))) is not place


@pytest.mark.parametrize(
    "numbers", [{"slots": 0}, {"slots": 4, "occupancy": 0}, {"slots": 4, "occupancy": 1.2}], ids=str
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(StartupError, match="request_router_kwargs: slots"):
        RoutingRules(**numbers)


def test_an_adapter_goes_to_a_replica_that_holds_it() -> None:
    asked = replace(GenerationRequest("r", "Hello.", 0), adapter=AdapterRef("danish", "/danish"))
    names = [f"replica-{number}" for number in range(8)]
    usual = _places(asked, names)
    assert len(usual) == 2 and _places(asked, names) == usual, "all callers agree"
    holder = next(name for name in names if name not in usual)
    held = {holder: ("other", "danish")}
    assert _places(asked, names, lambda name: held.get(name, ()))[0] == holder
    assert _places(replace(asked, adapter=None), names) == []
