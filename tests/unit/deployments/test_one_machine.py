"""Ray's settings on one machine: names that this Ray knows, and the user's own values stay."""

import os
from pathlib import Path

import pytest
import ray
from ray._private import ray_constants
from ray.dashboard.modules.reporter import reporter_consts
from ray.serve._private import constants

from serve_app.deployments.one_machine import RAY_ON_ONE_MACHINE, prepare_environment

SERVE_NAMES = Path(constants.__file__).read_text()
REPORTER_NAMES = Path(reporter_consts.__file__).read_text()


@pytest.mark.parametrize("name", RAY_ON_ONE_MACHINE)
def test_ray_knows_it(name: str) -> None:
    if name.startswith("RAY_SERVE_"):
        assert f'"{name}"' in SERVE_NAMES
    elif not name.startswith("RAY_"):
        assert f'"{name}"' in REPORTER_NAMES
    else:
        raylet = Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet"
        assert name == ray_constants.RAY_WORKER_NICENESS or name.removeprefix("RAY_").encode() in raylet.read_bytes()


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_worker_niceness": "15"})
    prepare_environment()
    assert os.environ == RAY_ON_ONE_MACHINE | {"RAY_worker_niceness": "15"}
