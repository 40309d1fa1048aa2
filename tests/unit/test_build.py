"""The graph that is bound, by what the cluster has."""

from collections.abc import Iterator

import pytest
import ray
from ray.serve import Application, Deployment

from serve_app.app import build_graph
from serve_app.settings import Settings


def deployments(application: Application) -> Iterator[Deployment]:
    yield application._bound_deployment
    for argument in application._bound_deployment.init_args:
        if isinstance(argument, Application):
            yield from deployments(argument)


def gpu_shares(settings: Settings) -> dict[str, float]:
    bound = deployments(build_graph(settings))
    return {deployment.name: (deployment.ray_actor_options or {}).get("num_gpus", 0) for deployment in bound}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the running nodes have."""
    resources = {"CPU": 8.0}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    return resources


def test_where_there_is_a_gpu_the_three_that_compute_share_it(cluster: dict[str, float]) -> None:
    cluster["GPU"] = 1.0
    compute = {"ContextEncoder": 0.15, "AudioDecoder": 0.25, "TokenGenerator": 0.6}
    assert gpu_shares(Settings()) == {"Ingress": 0, "JobRunner": 0, "WordAligner": 0} | compute


def test_where_there_is_none_nobody_asks_for_it(cluster: dict[str, float]) -> None:
    assert set(gpu_shares(Settings()).values()) == {0}


def test_without_ray_the_cluster_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking would start one, with options that nobody chose."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "cluster_resources", lambda: pytest.fail("asked"))
    assert set(gpu_shares(Settings()).values()) == {0}
    assert sum(gpu_shares(Settings(device="cuda")).values()) == pytest.approx(1)
