"""The Serve configs that are shipped: Serve takes them, and every name in them means something here."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from serve_app.app import build_graph
from serve_app.deployments.options import deployment_options, with_gpu_shares
from serve_app.deployments.scaling.autoscaling import SlotPolicy
from serve_app.engine.memory.plan import PlannedModel, plan_memory, usual_reserves
from serve_app.model.presets import preset_config
from serve_app.model.shape import CsmShape
from serve_app.preflight.check import check_config
from serve_app.preflight.serve_config import check_serve_config
from serve_app.settings import load_settings

CONFIGS = sorted((Path(__file__).parents[2] / "serve_app" / "configs").glob("*.yaml"))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.name)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(request.param.read_text())


def test_nothing_is_wrong_with_it(config: dict[str, Any]) -> None:
    assert check_config(config, cluster=None, with_model=False).startswith("fine")


def deployments(application: Application) -> set[str]:
    """Of a graph that was bound, by name."""
    bound = application._bound_deployment
    inner = [each for each in bound.init_args if isinstance(each, Application)]
    return {bound.name}.union(*(deployments(each) for each in inner))


def test_a_config_that_names_deployments_names_all_that_are_built(config: dict[str, Any]) -> None:
    [application] = check_serve_config(config)
    named = [deployment["name"] for deployment in application.deployments]
    assert len(set(named)) == len(named)
    assert set(named) in (set(), deployments(build_graph(load_settings(application.args))))


@pytest.fixture
def gpu_application() -> dict[str, Any]:
    config = yaml.safe_load(next(path for path in CONFIGS if path.name == "gpu.yaml").read_text())
    return config["applications"][0]


def test_the_gpu_shares_fill_one_card_and_are_the_usual_ones(gpu_application: dict[str, Any]) -> None:
    shares = {d["name"]: d["ray_actor_options"].get("num_gpus", 0) for d in gpu_application["deployments"]}
    assert sum(shares.values()) == pytest.approx(1)
    usual = with_gpu_shares(deployment_options(load_settings(gpu_application["args"])))
    assert shares == {name: values["ray_actor_options"].get("num_gpus", 0) for name, values in usual.items()}


def test_the_gpu_memory_fractions_leave_a_tenth_of_the_card_to_cuda_itself(gpu_application: dict[str, Any]) -> None:
    settings = load_settings(gpu_application["args"])
    assert settings.engine.memory_fraction + 2 * settings.codec.memory_fraction <= 0.9


def test_the_gpu_slots_fit_a_card_of_16_gb(gpu_application: dict[str, Any]) -> None:
    settings = load_settings(gpu_application["args"])
    model = PlannedModel(CsmShape.from_config(preset_config("csm-1b")), torch.bfloat16, settings.quantization)
    plan = plan_memory(model, settings.engine, usual_reserves(torch.device("cuda"), settings.engine))
    assert plan.peak_bytes <= settings.engine.memory_fraction * 16e9


@pytest.fixture
def autoscaling_application() -> dict[str, Any]:
    config = yaml.safe_load(next(path for path in CONFIGS if path.name == "autoscaling.yaml").read_text())
    return config["applications"][0]


def test_on_a_cluster_every_deployment_comes_and_goes(autoscaling_application: dict[str, Any]) -> None:
    for deployment in autoscaling_application["deployments"]:
        scaling = AutoscalingConfig(**deployment["autoscaling_config"])
        assert scaling.min_replicas < scaling.max_replicas
        # Serve counts over this long what replicas report every ten seconds.
        assert scaling.look_back_period_s > scaling.metrics_interval_s


def test_on_a_cluster_those_that_own_slots_scale_by_them(autoscaling_application: dict[str, Any]) -> None:
    by_slots = {
        deployment["name"]
        for deployment in autoscaling_application["deployments"]
        if AutoscalingConfig(**deployment["autoscaling_config"]).policy.get_policy() is SlotPolicy
    }
    assert by_slots == {"TokenGenerator", "AudioDecoder"}


def test_a_clusters_card_has_the_shares_and_the_memory_of_a_single_one(
    autoscaling_application: dict[str, Any], gpu_application: dict[str, Any]
) -> None:
    def shares(application: dict[str, Any]) -> dict[str, float]:
        return {each["name"]: each["ray_actor_options"].get("num_gpus", 0) for each in application["deployments"]}

    assert shares(autoscaling_application) == shares(gpu_application)
    for section in ("engine", "codec"):
        assert autoscaling_application["args"][section] == gpu_application["args"][section]
