"""A server that is measured: a process group of its own, which ends with the measurement."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx

from benchmarks.common.process_cpu import session_members

_READY_SECONDS = 90
_STOP_SECONDS = 12


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    pid: int


class CannotStart(Exception):
    """Says why, in the server's own last words."""


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], url: str, ready_seconds: float = _READY_SECONDS
) -> Iterator[Server]:
    """This Python with `command` as its arguments. Ready when entered; raises CannotStart.

    It ends with the caller too where that is told to end, by `timeout` for instance.
    """
    with tempfile.TemporaryFile() as log, _ending_in_order():
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            if reason := _not_ready(process, url, ready_seconds):
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines() or ["(it said nothing)"]
                raise CannotStart(f"{reason}: {said[-1]}")
            yield Server(url, process.pid)
        finally:
            _stop(process)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM unwinds the stack, as Ctrl-C does. By default it ends a process at once, and leaves what it started."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def own_ray() -> dict[str, str]:
    """An environment with nothing of the caller's Ray or settings: a Ray of its own, on ports that are free."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CSM_"))}
    first = free_port()
    return inherited | {
        "RAY_ADDRESS": "local",
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + 100),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
    }


def _not_ready(process: subprocess.Popen[bytes], url: str, seconds: float) -> str | None:
    """Why it is not, or None once it is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with status {process.returncode}"
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return None
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return f"not ready within {seconds:.0f} seconds"


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=_STOP_SECONDS)
    except (subprocess.TimeoutExpired, ProcessLookupError):
        pass
    # Ray gives its workers groups of their own, but they stay in the session that began with the server.
    for pid in session_members(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
