"""The files that a cluster is made of, read; and their Serve config with the defaults that fill it."""

import re
from pathlib import Path
from typing import Any

import ray
import yaml

from serve_app import __version__
from serve_app.deployments.options import deployment_options, with_gpu_shares
from serve_app.preflight.placement import Replicas, replicas_of
from serve_app.preflight.serve_config import check_serve_config
from serve_app.settings import load_settings

ROOT = next(parent for parent in Path(__file__).resolve().parents if (parent / "pyproject.toml").exists())
CLUSTER = ROOT / "cluster.yaml"
SERVE_CONFIG = ROOT / "serve_app" / "configs" / "autoscaling.yaml"
KUBERAY = ROOT / "deploy" / "kuberay"
RAYSERVICE = KUBERAY / "base" / "rayservice.yaml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
ALERTS = ROOT / "deploy" / "grafana" / "alerts.yaml"
NODES = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
}
"""What every node's processes are told: how long they go on without the head, and how soon they know of loads."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def replicas(serve_config: dict[str, Any]) -> list[Replicas]:
    [application] = check_serve_config(serve_config)
    return replicas_of(application, with_gpu_shares(deployment_options(load_settings(application.args))))


def drain_seconds() -> float:
    """The longest that a replica waits for its streams."""
    options = deployment_options(load_settings({}))
    return max(values["graceful_shutdown_timeout_s"] for values in options.values())


def kernels_folder(dockerfile: str) -> str | None:
    """Where the image has its compiled kernels."""
    found = re.search(r"^ENV .*TRITON_CACHE_DIR=(\S+)", dockerfile, re.MULTILINE)
    return found and found[1]


def image_is_of(image: str, ray_version: str) -> bool:
    """The tag is that version, or begins with it and a hyphen."""
    tag = image.rpartition(":")[2]
    return tag == ray_version or tag.startswith(f"{ray_version}-")


def is_our_image(image: str) -> bool:
    """The tag names this version of the server and the installed Ray."""
    return image.endswith(f"/csm-serve:{__version__}-ray{ray.__version__}")
