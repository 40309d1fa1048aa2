"""The Ray and the Serve that the integration tests of one process share, and the address of what runs there."""

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest

APP = "csm"
AUTHENTICATION = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""As the launcher starts Ray, with a token of these tests' own."""
_READY_SECONDS = 120
_TRIES = 3
_ENVIRONMENT = {
    # Values of metrics are half a second old at most.
    "RAY_metrics_report_interval_ms": "500",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
    # Ray would start a worker for each CPU that it counts. Serve's actors start their own.
    "RAY_prestart_worker_first_driver": "0",
}


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    app_name: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ray(host: str = "127.0.0.1") -> int:
    """Starts Ray and Serve without an application. Returns the port of Serve's proxy."""
    from ray import serve

    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        _init_ray()
    try:
        serve.start(http_options={"host": host, "port": port})
    except BaseException:
        stop_ray()  # otherwise no later test could start another
        raise
    return port


def _init_ray() -> None:
    """Ray gives a node 30 s to start, which a busy machine may exceed."""
    import ray

    for number in range(1, _TRIES + 1):
        try:
            ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
        except Exception as error:
            ray.shutdown()
            if number == _TRIES or "timed out during startup" not in str(error):
                raise
        else:
            return


def stop_ray() -> None:
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()


class SharedRay:
    """One Ray and one Serve, started at the first use, with one application at a time.

    Starting both takes as much CPU as a graph of stand-ins, so tests use this one unless they are about Ray or Serve
    themselves. Those call `stop` first: a machine of two cores runs one Ray at a time.
    """

    def __init__(self) -> None:
        self._url = ""
        self._running = ""

    def serving(self, name: str, graph: Callable[[], object]) -> Server:
        """Runs what `graph` makes. It stays, and is given again to the next caller with the same `name`; any other
        caller deletes it first, so that no replica and no route of one file meets the next."""
        from ray import serve

        self.start()
        if self._running != name:
            self.clear()
            try:
                serve.run(graph(), name=APP, route_prefix="/")
                _wait_until_ready(self._url)
            except BaseException:
                self.stop()
                raise
            self._running = name
        return Server(self._url, APP)

    def start(self) -> None:
        if not self._url:
            self._url = f"http://127.0.0.1:{start_ray()}"

    def clear(self) -> None:
        """Deletes the application, if one runs."""
        if self._running:
            from ray import serve

            self._running = ""
            serve.delete(APP)

    def stop(self) -> None:
        if self._url:
            self._url = self._running = ""
            stop_ray()


def _wait_until_ready(url: str) -> None:
    """The proxy learns the routes of an application a moment after it runs."""
    deadline = time.monotonic() + _READY_SECONDS
    while not ready(url):
        assert time.monotonic() < deadline, f"not ready after {_READY_SECONDS} seconds"
        time.sleep(0.05)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


shared_ray = SharedRay()
