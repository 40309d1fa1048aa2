"""A real local Ray with the whole graph on the tiny checkpoint, started once for a file of tests."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before Ray is imported anywhere: its processes inherit them.
os.environ |= {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.1",
}


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    app_name: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="module")
def server(tiny_checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    import ray
    from ray import serve

    from serve_app.app import build_graph
    from serve_app.settings import CodecSettings, EngineSettings, LimitSettings, Settings

    port = free_port()
    settings = Settings(
        model=str(tiny_checkpoint_folder),
        data_dir=tmp_path_factory.mktemp("data"),
        # No request that may wait is refused because the machine is busy with other tests.
        engine=EngineSettings(max_batch_size=8, max_waiting=4, max_wait_seconds=120),
        codec=CodecSettings(max_wait_seconds=60),
        limits=LimitSettings(max_body_bytes=4 * 2**20),
    )
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_graph(settings), name="csm", route_prefix="/")
    yield Server(f"http://127.0.0.1:{port}", "csm")
    serve.shutdown()
    ray.shutdown()
