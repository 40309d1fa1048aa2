"""The Serve configs that are shipped: Serve takes them, and every name in them means something here."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from serve_app.app import load_settings
from serve_app.deployments.options import deployment_options, with_gpu_shares
from serve_app.engine.memory_plan import PlannedModel, plan_memory, usual_reserves
from serve_app.model.presets import preset_config
from serve_app.model.shape import CsmShape

CONFIGS = sorted((Path(__file__).parents[2] / "serve_app" / "configs").glob("*.yaml"))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.name)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(request.param.read_text())


def test_serve_takes_it(config: dict[str, Any]) -> None:
    ServeDeploySchema.model_validate(config)


def test_no_key_is_misspelt(config: dict[str, Any]) -> None:
    """Serve's schema lets unknown keys through."""
    for application in config["applications"]:
        assert set(application) <= set(ServeApplicationSchema.model_fields)
        for deployment in application.get("deployments", []):
            assert set(deployment) <= set(DeploymentSchema.model_fields)


def test_arguments_and_deployment_names_exist(config: dict[str, Any]) -> None:
    for application in config["applications"]:
        settings = load_settings(application.get("args", {}))
        names = {deployment["name"] for deployment in application.get("deployments", [])}
        assert names <= set(deployment_options(settings))


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
