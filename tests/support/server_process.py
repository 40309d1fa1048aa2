"""Servers started as a user would, in a process group of their own."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.support.ray_server import AUTHENTICATION, shared_ray

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """A Ray of its own, whatever else runs on this machine."""
    return os.environ | AUTHENTICATION | {"CSM_DATA_DIR": str(data_dir), "RAY_ADDRESS": "local"} | more


@contextmanager
def running(command: list[str], url: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Ready to serve when entered; sent SIGINT when left, and killed with its children if that is not enough. Stops the
    Ray that this process shares first."""
    shared_ray.stop()
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        wait_until_ready(process, url)
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=60)
            return


def wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with status {process.returncode}: {process.communicate()[0][-3000:]}"
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise AssertionError("not ready after three minutes")
