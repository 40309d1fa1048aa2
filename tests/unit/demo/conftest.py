"""One server that speaks the demo voice, for all tests here: two ingresses over one engine."""

from collections.abc import Iterator

import pytest

from tests.support.demo_server import DemoServer, demo_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    with demo_server(
        tmp_path_factory.mktemp("demo"), engine={"max_batch_size": 4}, voices={"min_seconds": 1.0}
    ) as server:
        yield server
