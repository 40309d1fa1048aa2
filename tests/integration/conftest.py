"""The whole graph on a real local Ray. The files of a session share one; those that start their own come last."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.deployments.one_machine import RAY_ON_ONE_MACHINE
from serve_app.deployments.proxy_guard import PROXY_GUARDS
from tests.support.ray_server import Server, SharedRay, shared_ray

# Before Ray is imported anywhere: its processes inherit them.
os.environ |= (
    PROXY_GUARDS
    | RAY_ON_ONE_MACHINE
    | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.1",
        # On a busy machine a proxy starts more slowly than Serve waits by default; then Serve replaces it for ever.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    }
)

_FOLDER = Path(__file__).parent
_STARTS_ITS_OWN_RAY = (
    "test_haproxy_profile",
    "test_partitions",
    "test_readme",
    "test_two_nodes",
    "test_voices_on_two_nodes",
    "test_ways_to_run",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _FOLDER in item.path.parents:
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: item.path.parent == _FOLDER and item.path.stem in _STARTS_ITS_OWN_RAY)


@pytest.fixture(scope="session")
def ray_of_session() -> Iterator[SharedRay]:
    yield shared_ray
    shared_ray.stop()


@pytest.fixture(scope="session")
def adapters_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `server` looks for the adapter `configured` once a request names it."""
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def server(
    ray_of_session: SharedRay,
    tiny_checkpoint_folder: Path,
    adapters_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    """On the tiny checkpoint. Files that use it one after the other get the same one."""
    from serve_app.app import build_graph
    from serve_app.settings import CodecSettings, EngineSettings, LimitSettings, Settings

    def graph() -> object:
        settings = Settings(
            model=str(tiny_checkpoint_folder),
            adapters={"configured": str(adapters_folder / "configured")},
            data_dir=tmp_path_factory.mktemp("data"),
            # No request that may wait is refused because the machine is busy with other tests.
            engine=EngineSettings(max_batch_size=8, max_waiting=4, max_wait_seconds=120),
            codec=CodecSettings(max_wait_seconds=60),
            limits=LimitSettings(max_body_bytes=4 * 2**20),
        )
        return build_graph(settings)

    return ray_of_session.serving("tiny checkpoint", graph)
