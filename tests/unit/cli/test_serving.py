"""What the launcher checks before it starts anything."""

import socket
from collections.abc import Iterator

import pytest

from serve_app.cli.listening import require_free_port
from serve_app.errors import StartupError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_in_use_is_refused_with_the_remedy(taken_port: int, host: str) -> None:
    with pytest.raises(StartupError, match=rf"cannot listen on {host}:{taken_port} .*: choose another --port"):
        require_free_port(host, taken_port)


def test_a_port_that_others_would_share_is_refused_too() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(StartupError):
            require_free_port("127.0.0.1", server.getsockname()[1])


def test_a_free_port_stays_free(taken_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    require_free_port("127.0.0.1", free)
    require_free_port("127.0.0.1", free)


def test_a_name_that_is_no_address_of_this_machine_is_refused() -> None:
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.1:8000"):
        require_free_port("192.0.2.1", 8000)
