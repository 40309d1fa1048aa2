"""A graph that Serve runs from a config, as on a cluster: deployments have the options that the caller gives."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common.server_process import Server, free_port, own_ray, started

Options = Mapping[str, Mapping[str, Any]]
"""Of deployments, by name."""
_PUSH_SECONDS = "0.5"


@contextmanager
def served(args: Mapping[str, Any], options: Options) -> Iterator[Server]:
    """Ready when entered. args: settings of the application. Raises CannotStart."""
    port = free_port()
    application = {
        "name": "csm",
        "route_prefix": "/",
        "import_path": "serve_app.app:build",
        "deployments": [{"name": name, **values} for name, values in options.items()],
    }
    pushed = {f"RAY_SERVE_{part}_AUTOSCALING_METRIC_PUSH_INTERVAL_S": _PUSH_SECONDS for part in ("HANDLE", "REPLICA")}
    with tempfile.TemporaryDirectory() as folder:
        application["args"] = {**args, "data_dir": folder}
        config = Path(folder) / "serve.json"  # JSON is YAML too
        config.write_text(
            json.dumps({"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]})
        )
        command = ("-m", "ray.serve.scripts", "run", str(config))
        with started(command, own_ray() | pushed, f"http://127.0.0.1:{port}") as server:
            yield server
