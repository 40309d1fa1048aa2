"""Runners come and go with the jobs that are not over."""

from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_app.deployments.scaling.backlog import BACKLOG, ROOM, runners_for_backlog


def context(backlog: list[float], room: float = 4.0, target: int = 2, lowest: int = 1, highest: int = 6) -> Any:
    replicas = [f"replica-{n}" for n in range(len(backlog))]
    metrics = {BACKLOG: dict(zip(replicas, backlog, strict=True)), ROOM: dict.fromkeys(replicas, room)}
    return AutoscalingContext(
        deployment_id=None,  # pyright: ignore[reportArgumentType]
        deployment_name="JobRunner",
        app_name="csm",
        current_num_replicas=len(backlog),
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics=metrics if backlog else {},  # pyright: ignore[reportArgumentType]
        raw_metrics=None,
        capacity_adjusted_min_replicas=lowest,
        capacity_adjusted_max_replicas=highest,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=None,
    )


@pytest.mark.parametrize(
    ("backlog", "replicas"),
    [([0.0], 1), ([4.0], 1), ([5.0], 2), ([12.0, 11.0], 3), ([1000.0], 6)],
    ids=["none", "full", "one-more", "two-reports-of-one-queue", "at-most"],
)
def test_there_is_room_for_every_job(backlog: list[float], replicas: int) -> None:
    assert runners_for_backlog(context(backlog)) == (replicas, {})


def test_without_a_report_nothing_changes() -> None:
    assert runners_for_backlog(context([], target=3)) == (3, {})


def test_a_report_without_a_sample_is_none() -> None:
    assert runners_for_backlog(context([0.0], room=0.0, target=3)) == (3, {})


def test_one_always_looks_for_jobs() -> None:
    assert runners_for_backlog(context([0.0], lowest=0)) == (1, {})


def test_serve_finds_it_by_its_name() -> None:
    scaling = AutoscalingConfig(
        min_replicas=1,
        max_replicas=4,
        policy={"policy_function": "serve_app.deployments.scaling.backlog:runners_for_backlog"},  # pyright: ignore
    )
    assert scaling.policy.get_policy()(context([5.0])) == (2, {})
