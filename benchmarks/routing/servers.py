"""The graph with several token generators, behind one router or another, from a Serve config as an operator has it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.server_process import Server, free_port, own_ray, started
from benchmarks.load.workloads import Clip
from serve_app.messages import FRAME_RATE_HZ
from serve_app.model.checkpoint import Checkpoint
from serve_app.model.tokenizer import TextTokenizer

_SERVE = ("-c", "from ray.serve.scripts import cli; cli()", "run")
_READY_SECONDS = 180
_FLOAT32_BYTES = 4
_LITTLE_CPU = {"num_cpus": 0.1}
"""All replicas fit a machine of any size; they share its cores as the operating system has it."""


@dataclass(frozen=True, slots=True)
class Router:
    """`path` names a request router; None is what the graph comes with."""

    name: str
    path: str | None = None


ROUTERS = (
    Router("Serve's default", "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"),
    Router("by voice"),
)


@dataclass(frozen=True, slots=True)
class Graph:
    """What is served, the same behind every router."""

    model: str
    data_dir: Path
    replicas: int
    decoders: int
    """Each routes for itself, and knows nothing of what the others send."""
    slots: int
    """Of one generator replica."""
    prefix_cache_mb: int


def voice_positions(checkpoint: Checkpoint, clip: Clip) -> int:
    """What a voice's clip takes of the prefix cache: its transcript and its frames."""
    return len(TextTokenizer(checkpoint).encode(clip.speaker, clip.text)) + round(clip.seconds * FRAME_RATE_HZ)


def cache_mb(checkpoint: Checkpoint, positions: int) -> int:
    """The `engine.prefix_cache_mb` that holds about so many positions on a CPU, in float32."""
    stack = checkpoint.shape.backbone
    each = stack.num_layers * 2 * stack.num_kv_heads * stack.head_dim * _FLOAT32_BYTES
    return max(1, round(positions * each / 2**20))


@contextmanager
def running(graph: Graph, router: Router) -> Iterator[Server]:
    """Ready when entered. Raises CannotStart."""
    port = free_port()
    path = graph.data_dir / "serve_config.yaml"
    path.write_text(json.dumps(serve_config(graph, router, port)))  # which YAML takes as it is
    environment = own_ray() | {"RAY_metrics_report_interval_ms": "500"}
    with started([*_SERVE, str(path)], environment, f"http://127.0.0.1:{port}", _READY_SECONDS) as server:
        yield server


def serve_config(graph: Graph, router: Router, port: int) -> dict[str, Any]:
    """For `serve run`."""
    generator: dict[str, Any] = {"name": "TokenGenerator", "num_replicas": graph.replicas}
    if router.path is not None:
        generator["request_router_config"] = {"request_router_class": router.path}
    decoder = {"name": "AudioDecoder", "num_replicas": graph.decoders}
    others = [{"name": name} for name in ("ContextEncoder", "JobRunner", "Ingress")]
    application = {
        "name": "csm",
        "route_prefix": "/",
        "import_path": "serve_app.app:build",
        "args": _settings(graph),
        "deployments": [each | {"ray_actor_options": _LITTLE_CPU} for each in (generator, decoder, *others)],
    }
    return {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}


def _settings(graph: Graph) -> dict[str, Any]:
    return {
        "model": graph.model,
        "device": "cpu",
        "data_dir": str(graph.data_dir),
        "engine": {
            "max_batch_size": graph.slots,
            "max_step_ms": 0,  # it would measure the machine, not the routers
            "prefix_cache_mb": graph.prefix_cache_mb,
            "threads": 1,
        },
        # Together as many as the generators have, and some more: streams do not spread over decoders evenly.
        "codec": {"max_streams": -(-graph.replicas * graph.slots // graph.decoders) + 2, "threads": 1},
    }
