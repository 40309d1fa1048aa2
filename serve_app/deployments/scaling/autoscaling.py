"""Scales replicas by slots, the places in a replica's batch.

A Serve config names the policy for each deployment that shall scale:

    - name: TokenGenerator
      autoscaling_config:
        min_replicas: 1
        max_replicas: 8
        policy:
          policy_function: serve_app.deployments.scaling.autoscaling:SlotPolicy
          policy_kwargs: {occupancy: 0.8}

It is for TokenGenerator and AudioDecoder, which run out of slots. ContextEncoder and Ingress are limited by requests,
which Serve's own policy counts (`target_ongoing_requests`).
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ray.serve.config import AutoscalingContext

from serve_app.errors import StartupError

REFUSALS_SECONDS = 10.0
"""A refusal counts for this long, about as long as the refused request would have held a slot."""


@dataclass(frozen=True, slots=True)
class SlotLoad:
    """Slots of one replica, used and usable. Serve averages each field over `look_back_period_s`."""

    capacity: float
    """Usable slots. For a generator, those that the measured step time allows."""
    taken: float = 0.0
    waiting: float = 0.0
    """Requests that wait for a slot, background work included."""
    refused: float = 0.0
    """Refusals in the last `REFUSALS_SECONDS`."""
    oldest_wait_seconds: float = 0.0
    """Of interactive requests only. Background work may wait."""

    @property
    def demand(self) -> float:
        """Slots asked for. Clients that retry at once are refused many times, so refusals count at most once a slot."""
        return self.taken + self.waiting + min(self.refused, self.capacity)


@dataclass(frozen=True, slots=True)
class SlotRules:
    """When slots are too few or too many. Raises StartupError for rules that contradict each other."""

    occupancy: float = 0.8
    """Replicas are added if more than this share of all slots is asked for."""
    shrink_occupancy: float = 0.6
    """A replica is removed if the others would not be fuller than this. A steady load may vary by the gap."""
    patience_seconds: float = 1.0
    """A replica is added if an interactive request has waited longer than this for a slot."""

    def __post_init__(self) -> None:
        if not 0 < self.shrink_occupancy < self.occupancy <= 1:
            raise StartupError(
                f"policy_kwargs: shrink_occupancy {self.shrink_occupancy} and occupancy {self.occupancy} must rise "
                "from above 0 to at most 1: leave them out for 0.6 and 0.8"
            )
        if self.patience_seconds < 0:
            raise StartupError(f"policy_kwargs: patience_seconds {self.patience_seconds} must be 0 or more")


def replicas_for(loads: Sequence[SlotLoad], queued: float, num_running: int, num_wanted: int, rules: SlotRules) -> int:
    """How many replicas the load needs.

    loads: of the replicas that have reported. queued: requests that wait at callers. num_running: replicas that run.
    num_wanted: the last decision. It stays if the load fits it, so that nothing flaps.
    """
    if not loads:
        return num_wanted
    capacity = sum(load.capacity for load in loads) / len(loads)
    demand = queued + sum(load.demand for load in loads)
    growing = math.ceil(demand / (rules.occupancy * capacity))
    shrinking = math.ceil(demand / (rules.shrink_occupancy * capacity))
    # If the new replica would be removed again at once, the wait has another cause than missing slots.
    if max(load.oldest_wait_seconds for load in loads) > rules.patience_seconds and shrinking > num_running:
        growing = max(growing, num_running + 1)
    return max(growing, min(shrinking, num_wanted))


class SlotPolicy:
    """The policy. Serve's controller calls it ten times a second, and applies delays, factors and bounds.

    Keyword arguments (`policy_kwargs`) are those of `SlotRules`.
    """

    def __init__(self, **rules: float) -> None:
        known = {field.name for field in fields(SlotRules)}
        if unknown := sorted(rules.keys() - known):
            raise StartupError(f"policy_kwargs: {unknown[0]} is not known: use {', '.join(sorted(known))}")
        self._rules = SlotRules(**rules)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        replicas = replicas_for(
            _loads(context.aggregated_metrics or {}),
            context.total_queued_requests,
            context.current_num_replicas,
            context.target_num_replicas,
            self._rules,
        )
        lowest, highest = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(lowest, min(replicas, highest)), {}


def _loads(metrics: dict[str, dict[Any, float]]) -> list[SlotLoad]:
    names = [field.name for field in fields(SlotLoad)]
    loads = [SlotLoad(*(metrics[name][replica] for name in names)) for replica in metrics.get(names[0], {})]
    return [load for load in loads if load.capacity > 0]  # Serve reports 0 for replicas without reports


class RecentGrowth:
    """The growth of a total in the last `REFUSALS_SECONDS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def growth(self, total: int) -> int:
        """The growth up to now. Call it regularly: it sees the total only when called."""
        now = self._clock()
        self._seen.append((now, total))
        while len(self._seen) > 2 and self._seen[1][0] <= now - REFUSALS_SECONDS:
            self._seen.popleft()
        return total - self._seen[0][1]
