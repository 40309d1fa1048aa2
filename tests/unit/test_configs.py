"""The Serve configs that are shipped: Serve takes them, and every name in them means something here."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

from serve_app.app import load_settings
from serve_app.deployments.options import deployment_options

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


def test_the_gpu_shares_fill_one_card() -> None:
    config = yaml.safe_load(next(path for path in CONFIGS if path.name == "gpu.yaml").read_text())
    shares = [d["ray_actor_options"].get("num_gpus", 0) for d in config["applications"][0]["deployments"]]
    assert sum(shares) == pytest.approx(1)
