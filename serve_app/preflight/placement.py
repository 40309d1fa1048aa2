"""Checks that replicas fit: on a card with others, and on a cluster's nodes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ray.serve.config import AutoscalingConfig

from serve_app.errors import StartupError
from serve_app.preflight.serve_config import OurApplication
from serve_app.settings import Settings

_ROUNDING = 1e-4
"""Ray counts resources in ten thousandths."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """A deployment's replicas as Ray places them. `key` is their place in the Serve config, or their name."""

    deployment: str
    key: str
    needs: dict[str, float]
    """Resources of one replica: CPU, GPU, and custom ones of the cluster."""
    most: int
    most_key: str
    """The config key that limits their number."""
    most_on_node: int | None = None

    @property
    def share(self) -> float:
        """Share of a card."""
        return self.needs.get("GPU", 0)


@dataclass(frozen=True, slots=True)
class NodeType:
    name: str
    resources: dict[str, float]
    most: int
    """Largest number of such nodes."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes that a cluster may grow to. `source` is the file that says so."""

    source: str
    types: tuple[NodeType, ...]
    most: int


@dataclass(slots=True)
class _Opened:
    """The nodes that a cluster would run, with their free resources."""

    nodes: Nodes
    free: list[tuple[NodeType, dict[str, float]]] = field(default_factory=list)

    def take(self, replicas: Replicas) -> bool:
        """Place one of the replicas on a running node, or on a new one. A new node has no GPU unless one is needed."""
        needs, own = replicas.needs, {}
        if replicas.most_on_node is not None:
            # Ray does the same: each node has 1 of a resource of the deployment's own.
            needs, own = needs | {replicas.key: 1 / replicas.most_on_node}, {replicas.key: 1.0}
        for _, free in self.free:
            if _fits(needs, own | free):
                free.update(own | free)
                _subtract(needs, free)
                return True
        started = [node_type for node_type, _ in self.free]
        for node_type in sorted(self.nodes.types, key=lambda each: each.resources.get("GPU", 0)):
            may_start = len(started) < self.nodes.most and started.count(node_type) < node_type.most
            if may_start and _fits(needs, own | node_type.resources):
                self.free.append((node_type, own | node_type.resources))
                _subtract(needs, self.free[-1][1])
                return True
        return False


def replicas_of(application: OurApplication, defaults: dict[str, dict[str, Any]]) -> list[Replicas]:
    """The replicas of every deployment: the Serve config over `defaults` (options by deployment name)."""
    keys = {each["name"]: f"{application.key}.deployments[{i}]" for i, each in enumerate(application.deployments)}
    given = {each["name"]: each for each in application.deployments}
    return [_replicas(name, keys.get(name, name), options | given.get(name, {})) for name, options in defaults.items()]


def _replicas(name: str, key: str, options: dict[str, Any]) -> Replicas:
    actor = options.get("ray_actor_options", {})
    cpus = actor.get("num_cpus")
    needs: dict[str, float] = {"CPU": 1 if cpus is None else cpus, "GPU": actor.get("num_gpus") or 0} | (
        actor.get("resources") or {}
    )
    fixed, most_on_node = options.get("num_replicas"), options.get("max_replicas_per_node")
    if isinstance(fixed, int):
        return Replicas(name, key, needs, fixed, f"{key}.num_replicas", most_on_node)
    autoscaling = options.get("autoscaling_config")
    if fixed == "auto":
        autoscaling = AutoscalingConfig.default().model_dump() | dict(autoscaling or {})
    most = dict(autoscaling).get("max_replicas", 1) if autoscaling else 1
    return Replicas(name, key, needs, most, f"{key}.autoscaling_config.max_replicas", most_on_node)


def check_shares(replicas: Iterable[Replicas], settings: Settings) -> None:
    """Raises StartupError for an impossible share of a card, or a card whose memory is promised twice."""
    fractions = _memory_fractions(settings)
    computing = [each for each in replicas if each.deployment in fractions]
    for each in computing:
        if each.share > 1:
            raise StartupError(
                f"{each.key}.ray_actor_options.num_gpus: {each.share:g} is more than the one card that a replica "
                "computes on: give 1 or less"
            )
        if settings.device == "cuda" and settings.stand_in is None and each.share == 0:
            raise StartupError(
                f"{each.key}.ray_actor_options.num_gpus: is not given and device is cuda, so {each.deployment} would "
                "be started where it sees no card: give its share of one"
            )
    promised, who = _most_promised([(each, fractions[each.deployment]) for each in computing])
    if promised > 1 + _ROUNDING:
        raise StartupError(
            f"engine.memory_fraction {settings.engine.memory_fraction:g} and codec.memory_fraction "
            f"{settings.codec.memory_fraction:g} promise {promised:.2f} of a card's memory, since num_gpus lets "
            f"{who} share one: lower them, or raise num_gpus"
        )


def check_shared_cards(applications: Iterable[tuple[Sequence[Replicas], Settings]]) -> None:
    """Raises StartupError where applications may share a card and promise more memory than it has."""
    computing = [
        (each, fraction)
        for replicas, settings in applications
        for each in replicas
        if (fraction := _memory_fractions(settings).get(each.deployment)) is not None
    ]
    promised, who = _most_promised(computing)
    if promised > 1 + _ROUNDING:
        raise StartupError(
            f"applications: memory_fraction promises {promised:.2f} of a card's memory, since num_gpus lets {who} of "
            "several applications share one: lower it, or raise num_gpus"
        )


def _memory_fractions(settings: Settings) -> dict[str, float]:
    """By deployment, for those that compute."""
    engine, codec = settings.engine.memory_fraction, settings.codec.memory_fraction
    if settings.graph == "fused":
        return {"AudioDecoder": engine + codec, "ContextEncoder": codec}
    return {"TokenGenerator": engine, "AudioDecoder": codec, "ContextEncoder": codec}


def _most_promised(computing: Sequence[tuple[Replicas, float]]) -> tuple[float, str]:
    """The largest part of a card's memory that replicas which may share one take together, and which those are."""
    on_cards = [pair for pair in computing if pair[0].share > 0]

    def promised(counts: Sequence[int]) -> float:
        return sum(n * fraction for n, (_, fraction) in zip(counts, on_cards, strict=True))

    worst = max(_sharing_a_card([each for each, _ in on_cards]), key=promised)
    who: Counter[str] = Counter()
    for number, (each, _) in zip(worst, on_cards, strict=True):
        who[each.deployment] += number
    return promised(worst), ", ".join(f"{number} {name}" for name, number in who.items() if number)


def _sharing_a_card(replicas: Sequence[Replicas]) -> Iterator[tuple[int, ...]]:
    """All combinations of replicas that one card may hold, as numbers of each."""
    for counts in product(*(range(_most_on_card(each) + 1) for each in replicas)):
        if sum(n * each.share for n, each in zip(counts, replicas, strict=True)) <= 1 + _ROUNDING:
            yield counts


def _most_on_card(replicas: Replicas) -> int:
    most = min(replicas.most, int(1 / replicas.share + _ROUNDING))
    return most if replicas.most_on_node is None else min(most, replicas.most_on_node)


def _check_room_on_cards(replicas: Sequence[Replicas], nodes: Nodes) -> None:
    """Raises StartupError if replicas may be placed so that another one finds no room on any card.

    Serve spreads replicas over the nodes that run, in the order in which they are asked for. It never moves one.
    """
    if sum(each.most * each.resources.get("GPU", 0) for each in nodes.types) < 2:
        return
    on_cards = [each for each in replicas if 0 < each.share <= 1]
    for each in on_cards:
        others = [other for other in on_cards if other is not each]
        for counts in _sharing_a_card(others):
            taken = sum(n * other.share for n, other in zip(counts, others, strict=True))
            if taken > 1 - each.share + _ROUNDING:
                who = " and ".join(f"{n} {other.deployment}" for n, other in zip(counts, others, strict=True) if n)
                several = max(zip(counts, others, strict=True), key=lambda pair: pair[0])[1]
                raise StartupError(
                    f"{several.key}.max_replicas_per_node: {who} may take so much of a card that {each.deployment} "
                    f"finds no room beside them: give max_replicas_per_node: 1"
                )


def check_nodes(replicas: Sequence[Replicas], nodes: Nodes) -> int:
    """How many nodes hold all replicas at their maximum. Raises StartupError if they cannot all be placed."""
    for each in replicas:
        if not any(_fits(each.needs, node_type.resources) for node_type in nodes.types if node_type.most):
            needs = ", ".join(f"{amount:g} {resource}" for resource, amount in each.needs.items() if amount)
            raise StartupError(
                f"{each.key}.ray_actor_options: a replica needs {needs}, and no node type of {nodes.source} has that: "
                "ask for less, or add one"
            )
    opened = _Opened(nodes)
    # Replicas with the fewest possible nodes come first.
    for each in sorted(replicas, key=lambda each: (each.share, len(each.needs), each.needs["CPU"]), reverse=True):
        for placed in range(each.most):
            if not opened.take(each):
                raise StartupError(
                    f"{each.most_key}: {each.most} replicas of {each.deployment} are more than {nodes.source} can hold "
                    f"beside the others, {placed} fit: lower it, or raise max_workers"
                )
    _check_room_on_cards(replicas, nodes)
    return len(opened.free)


def _fits(needs: dict[str, float], free: dict[str, float]) -> bool:
    return all(amount <= free.get(resource, 0) + _ROUNDING for resource, amount in needs.items())


def _subtract(needs: dict[str, float], free: dict[str, float]) -> None:
    for resource, amount in needs.items():
        free[resource] = free.get(resource, 0) - amount
