"""How many replicas: by slots, the places in a replica's batch.

A Serve config names the policy where a deployment's replicas are to come and go:

    - name: TokenGenerator
      autoscaling_config:
        min_replicas: 1
        max_replicas: 8
        policy:
          policy_function: serve_app.deployments.scaling.autoscaling:SlotPolicy
          policy_kwargs: {occupancy: 0.8}

It is for TokenGenerator and AudioDecoder, whose slots are what runs out. ContextEncoder and Ingress are bound by
requests: Serve's own policy counts those (`target_ongoing_requests`).
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
"""Refusals count for this long: about as long as what was refused would have held a slot."""


@dataclass(frozen=True, slots=True)
class SlotLoad:
    """What one replica holds, and what it could hold. Serve averages each field over `look_back_period_s`."""

    capacity: float
    """Slots that may be taken: of a generator those that the measured step time allows."""
    taken: float = 0.0
    waiting: float = 0.0
    """For a slot, background work included."""
    refused: float = 0.0
    """In the last `REFUSALS_SECONDS`."""
    oldest_wait_seconds: float = 0.0
    """Of those that somebody waits for: background work may wait."""

    @property
    def demand(self) -> float:
        """In slots. Clients that try again at once are refused many times: all they can ask for is twice as much."""
        return self.taken + self.waiting + min(self.refused, self.capacity)


@dataclass(frozen=True, slots=True)
class SlotRules:
    """When slots are too few, and when too many. Raises StartupError for rules that could not hold."""

    occupancy: float = 0.8
    """Replicas are added where more than this share of all slots is asked for."""
    shrink_occupancy: float = 0.6
    """One is given up where the others would not be fuller than this. The gap is what a steady load may vary by."""
    patience_seconds: float = 1.0
    """One replica more than run now, where somebody has waited longer than this for a slot."""

    def __post_init__(self) -> None:
        if not 0 < self.shrink_occupancy < self.occupancy <= 1:
            raise StartupError(
                f"policy_kwargs: shrink_occupancy {self.shrink_occupancy} and occupancy {self.occupancy} must rise "
                "from above 0 to at most 1: leave them out for 0.6 and 0.8"
            )
        if self.patience_seconds < 0:
            raise StartupError(f"policy_kwargs: patience_seconds {self.patience_seconds} must be 0 or more")


def replicas_for(loads: Sequence[SlotLoad], queued: float, num_running: int, num_wanted: int, rules: SlotRules) -> int:
    """How many replicas the load calls for.

    `loads` of those of `num_running` that have reported; `queued` requests wait at callers. `num_wanted` was decided
    before: it stays where the load fits it, so that nothing flaps.
    """
    if not loads:
        return num_wanted
    capacity = sum(load.capacity for load in loads) / len(loads)
    demand = queued + sum(load.demand for load in loads)
    growing = math.ceil(demand / (rules.occupancy * capacity))
    shrinking = math.ceil(demand / (rules.shrink_occupancy * capacity))
    # Where so few slots are taken that the replica would be given up again, another one is not what the wait is for.
    if max(load.oldest_wait_seconds for load in loads) > rules.patience_seconds and shrinking > num_running:
        growing = max(growing, num_running + 1)
    return max(growing, min(shrinking, num_wanted))


class SlotPolicy:
    """Serve's controller asks it ten times a second, and applies delays, factors and bounds to the answer.

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
    return [load for load in loads if load.capacity > 0]  # 0 is what Serve makes of no reports


class Lately:
    """How far a total that only grows has come in the last `REFUSALS_SECONDS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def growth(self, total: int) -> int:
        """To be asked again and again: nothing is known of the time in between."""
        now = self._clock()
        self._seen.append((now, total))
        while len(self._seen) > 2 and self._seen[1][0] <= now - REFUSALS_SECONDS:
            self._seen.popleft()
        return total - self._seen[0][1]
