"""How many replicas a load of slots calls for; and what Serve's controller, which asks, makes of the answer."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentID
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serve_app.deployments.scaling.autoscaling import (
    REFUSALS_SECONDS,
    RecentGrowth,
    SlotLoad,
    SlotPolicy,
    SlotRules,
    replicas_for,
)
from serve_app.errors import StartupError

RULES = SlotRules(occupancy=0.8, shrink_occupancy=0.6, patience_seconds=1)
PATH = "serve_app.deployments.scaling.autoscaling:SlotPolicy"


def load(taken: float, waiting: float = 0, **others: float) -> SlotLoad:
    return SlotLoad(**({"capacity": 10, "taken": taken, "waiting": waiting} | others))


@pytest.mark.parametrize(
    ("loads", "queued", "wanted", "replicas"),
    [
        pytest.param([load(0)], 0, 1, 0, id="idle, and the lower bound is another's"),
        pytest.param([load(1)], 0, 1, 1, id="one slot needs one replica"),
        pytest.param([load(8)], 0, 1, 1, id="as full as it may be"),
        pytest.param([load(9)], 0, 1, 2, id="fuller"),
        pytest.param([load(10, waiting=16)], 0, 1, 4, id="who waits is counted"),
        pytest.param([load(8)], 8, 1, 2, id="who waits at callers too"),
        pytest.param([load(10, refused=6)], 0, 1, 2, id="who was refused too"),
        pytest.param([load(10, refused=600)], 0, 1, 3, id="but not each of a client's attempts"),
        pytest.param([load(6), load(6)], 0, 2, 2, id="12 of 20"),
        pytest.param([load(3), load(3)], 0, 2, 1, id="6 fit one, not too full"),
        pytest.param([load(4), load(3)], 0, 2, 2, id="7 would fit one, too full"),
        pytest.param([load(10, waiting=6)], 0, 3, 3, id="two are on their way"),
        pytest.param([load(9, capacity=4), load(9, capacity=16)], 0, 2, 3, id="capacity is what was measured"),
        pytest.param([], 0, 2, 2, id="nobody has reported yet"),
    ],
)
def test_replicas_for_a_load(loads: list[SlotLoad], queued: float, wanted: int, replicas: int) -> None:
    assert replicas_for(loads, queued, max(1, len(loads)), wanted, RULES) == replicas


def test_somebody_who_waits_too_long_brings_one_replica_more_than_run() -> None:
    waited = [load(7, oldest_wait_seconds=5)]
    assert replicas_for(waited, 0, 1, 1, RULES) == 2
    assert replicas_for(waited, 0, 1, 2, RULES) == 2, "the one that is being started"
    assert replicas_for([load(7, oldest_wait_seconds=0.5)], 0, 1, 1, RULES) == 1


def test_but_not_where_nearly_all_slots_are_free() -> None:
    assert replicas_for([load(1, oldest_wait_seconds=5), load(0)], 0, 2, 2, RULES) == 1


LOADS = st.lists(
    st.builds(
        SlotLoad,
        capacity=st.floats(1, 64),
        taken=st.floats(0, 64),
        waiting=st.floats(0, 200),
        refused=st.floats(0, 1000),
        oldest_wait_seconds=st.floats(0, 60),
    ),
    max_size=8,
)


@given(loads=LOADS, queued=st.floats(0, 100), wanted=st.integers(0, 20))
def test_the_same_load_never_makes_it_change_its_mind(loads: list[SlotLoad], queued: float, wanted: int) -> None:
    decided = replicas_for(loads, queued, len(loads), wanted, RULES)
    assert replicas_for(loads, queued, len(loads), decided, RULES) == decided


@given(capacity=st.floats(1, 64), demand=st.floats(0, 500), noise=st.lists(st.floats(0.9, 1.1), max_size=30))
def test_a_load_that_is_steady_within_a_tenth_brings_no_replica_that_is_given_up_again(
    capacity: float, demand: float, noise: list[float]
) -> None:
    wanted, history = 1, []
    for factor in noise:
        loads = [SlotLoad(capacity, taken=demand * factor / max(1, wanted))] * max(1, wanted)
        wanted = replicas_for(loads, 0, max(1, wanted), wanted, RULES)
        history.append(wanted)
    assert history == sorted(history)


@given(loads=LOADS.filter(bool), queued=st.floats(0, 100), more=st.floats(0, 100), wanted=st.integers(0, 20))
def test_more_demand_never_means_fewer_replicas(loads: list[SlotLoad], queued: float, more: float, wanted: int) -> None:
    few, many = (replicas_for(loads, asked, len(loads), wanted, RULES) for asked in (queued, queued + more))
    assert few <= many


def context(
    loads: list[SlotLoad], target: int, lowest: int = 1, highest: int = 5, **options: Any
) -> AutoscalingContext:
    metrics: dict[str, dict[Any, float]] = {}
    for number, one in enumerate(loads):
        for name, value in asdict(one).items():
            metrics.setdefault(name, {})[number] = value
    return AutoscalingContext(
        deployment_id=DeploymentID("TokenGenerator"),
        deployment_name="TokenGenerator",
        app_name="csm",
        current_num_replicas=len(loads),
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=0,
        total_queued_requests=options.pop("queued", 0),
        aggregated_metrics=metrics,
        raw_metrics=None,
        capacity_adjusted_min_replicas=lowest,
        capacity_adjusted_max_replicas=highest,
        policy_state=options.pop("state", {}),
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0,
        config=AutoscalingConfig(min_replicas=lowest, max_replicas=highest, upscale_delay_s=0, downscale_delay_s=0),
    )


@given(
    loads=LOADS, queued=st.floats(0, 100), lowest=st.integers(0, 3), more=st.integers(0, 5), target=st.integers(0, 9)
)
def test_never_below_the_least_nor_above_the_most(
    loads: list[SlotLoad], queued: float, lowest: int, more: int, target: int
) -> None:
    highest = max(1, lowest + more)
    replicas, _ = SlotPolicy()(context(loads, target, lowest, highest, queued=queued))
    assert lowest <= replicas <= highest


def test_a_replica_that_has_reported_nothing_yet_is_taken_to_be_as_the_others() -> None:
    nothing = SlotLoad(capacity=0)
    assert SlotPolicy()(context([load(10, waiting=6), nothing], target=2))[0] == 2
    assert SlotPolicy()(context([nothing], target=2))[0] == 2


def asked_by_serve(path: str = PATH, **kwargs: Any) -> Callable[[AutoscalingContext], tuple[int, dict[str, Any]]]:
    """The policy as the controller gets it: through a Serve config and a pickle, and wrapped in Serve's own rules."""
    policy = AutoscalingPolicy(policy_function=path, policy_kwargs=kwargs)
    again = AutoscalingPolicy(policy_function=path, _serialized_policy_def=policy.get_serialized_policy_def())  # type: ignore[arg-type]
    return _apply_autoscaling_config(again.get_policy()(**kwargs))


def test_serve_can_ask_it() -> None:
    decide = asked_by_serve(occupancy=0.5, shrink_occupancy=0.4)
    assert decide(context([load(8)], target=1))[0] == 2
    assert decide(context([load(0)], target=1, lowest=0))[0] == 0


def test_serve_itself_brings_the_first_replica_back_from_zero() -> None:
    waiting = context([], target=0, lowest=0)
    waiting._total_num_requests_value = 1
    assert asked_by_serve()(waiting)[0] == 1
    assert asked_by_serve()(context([], target=0, lowest=0))[0] == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"ocupancy": 0.5}, "ocupancy is not known: use occupancy, patience_seconds, shrink_occupancy"),
        ({"occupancy": 0.5}, "shrink_occupancy 0.6 and occupancy 0.5 must rise"),
        ({"occupancy": 1.5}, "must rise from above 0 to at most 1"),
        ({"patience_seconds": -1}, "patience_seconds -1 must be 0 or more"),
    ],
    ids=["unknown", "crossed", "above one", "negative"],
)
def test_rules_that_cannot_hold_are_refused(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        SlotPolicy(**kwargs)


def test_refusals_count_for_a_while() -> None:
    now = 0.0
    lately = RecentGrowth(clock=lambda: now)
    counted = []
    for second, total in [(2, 0), (4, 5), (8, 5), (12, 9), (16, 9), (30, 9)]:
        now = float(second)
        counted.append(lately.growth(total))
    assert REFUSALS_SECONDS == 10
    assert counted == [0, 5, 5, 9, 4, 0]
