"""The graph as an operator has it: from a Serve config, which can be given again with changes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.ray_server import APP, Server, shared_ray, start_ray, stop_ray


@contextmanager
def serving() -> Iterator[Server]:
    """Ray and Serve without an application. Values of metrics are half a second old."""
    shared_ray.stop()
    try:
        yield Server(f"http://127.0.0.1:{start_ray()}", APP)
    finally:
        stop_ray()


def deploy(args: dict[str, Any], deployments: dict[str, dict[str, Any]]) -> None:
    """What `serve deploy` does; returns at once, while Serve carries it out."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    application = {
        "name": APP,
        "route_prefix": "/",
        "import_path": "serve_app.app:build",
        "args": args,
        "deployments": [{"name": name} | options for name, options in deployments.items()],
    }
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))


def status() -> Any:
    from ray import serve

    return serve.status().applications[APP]


def replica_states(deployment: str) -> dict[str, int]:
    """How many replicas are in each state."""
    found = status().deployments.get(deployment)
    return {str(getattr(state, "value", state)): n for state, n in found.replica_states.items()} if found else {}


def until(what: str, is_so: Callable[[], bool], seconds: float = 90) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, f"not {what} after {seconds} seconds: {status()}"
        time.sleep(0.05)
    return time.monotonic() - began


def until_running(seconds: float = 90) -> float:
    return until("running", lambda: APP in _applications() and status().status == "RUNNING", seconds)


def _applications() -> dict[str, Any]:
    from ray import serve

    return serve.status().applications
