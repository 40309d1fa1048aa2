"""Runs a server on this machine: starts Ray and the graph, and stops them on a signal."""

import logging
import os
import signal
import socket
import threading
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from serve_app import log
from serve_app.app import build_graph
from serve_app.cli.progress import console, progress
from serve_app.cli.start_errors import ray_failure, require_data_folder, require_ray
from serve_app.deployments import proxy_guard
from serve_app.deployments.options import deployment_options, with_gpu_shares
from serve_app.deployments.ray_private import listens_on
from serve_app.errors import StartupError
from serve_app.keys.exposure import check_exposure
from serve_app.messages import WEIGHTS_NOTICES
from serve_app.preflight.placement import check_shares, replicas_of
from serve_app.preflight.serve_config import OurApplication
from serve_app.settings import STAND_IN, Settings

APP_NAME = "csm"
_log = logging.getLogger(__name__)


def serve_until_stopped(settings: Settings, host: str, port: int) -> None:
    """Start, print the address, wait for SIGINT or SIGTERM. Raises StartupError if the server cannot start."""
    log.set_up(settings.log_level, log_format=settings.log_format)
    host = host.removeprefix("[").removesuffix("]")  # as an IPv6 address stands in URLs
    check_exposure(settings.keys, listens_on(host))
    require_free_port(host, port)
    if not _is_local():
        require_ray(os.environ["RAY_ADDRESS"])
    weights = _open_checkpoint(settings)
    if settings.database.url is None or settings.files.url is None:
        require_data_folder(settings.data_dir)
    try:
        with progress("starting Ray"):
            _start_ray(host, port)
        with progress(f"loading {settings.model}"):
            _run_graph(settings)
        _greet(settings, host, port, weights)
        _stop_on_signal().wait()
        console.print("stopping: running streams may finish; interrupt again to end them now")
        # Not serve.shutdown(): it kills its controller during a task, which Ray reports as a failure.
        serve.delete(APP_NAME)
    finally:
        ray.shutdown()


def _stop_on_signal() -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets. A second one ends the process. Call it after Ray has started,
    since Ray installs its own handlers."""
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


def address_of(host: str, port: int) -> str:
    """As it stands in URLs: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_free_port(host: str, port: int) -> None:
    """Raises StartupError if the port is taken. Serve would share it silently, and each server would get half of the
    requests."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"cannot listen on {address_of(host, port)} ({error.strerror}): choose another --port"
            ) from None


def _open_checkpoint(settings: Settings) -> str:
    """The kind of the checkpoint's weights. It is fetched here, if need be, so that the progress shows."""
    if settings.stand_in is not None:
        _log.warning("serving a stand-in: it makes tones to measure this server, there is no model")
        return STAND_IN
    with progress(f"opening {settings.model}"):
        from serve_app.model.checkpoint import open_checkpoint
        from serve_app.model.device import pick_device

    if _is_local() and pick_device(settings.device).type == "cuda":
        options = with_gpu_shares(deployment_options(settings))
        check_shares(replicas_of(OurApplication("", {}, []), options), settings)
    return open_checkpoint(settings.model, settings.revision, settings.base).weights


def _start_ray(host: str, port: int) -> None:
    """Ray, and Serve in it. Raises StartupError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", proxy_guard.IMPORT_PATH)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    local: dict[str, Any] = {"address": "local", "include_dashboard": False} if _is_local() else {}
    try:
        ray.init(**local, **quiet)
        serve.start(http_options={"host": host, "port": port}, logging_config=LoggingConfig(enable_access_log=False))
    except Exception as error:
        _log.debug("Ray does not start", exc_info=error)
        raise ray_failure(error) from error


def _is_local() -> bool:
    return os.environ.get("RAY_ADDRESS", "local") == "local"


def _run_graph(settings: Settings) -> None:
    try:
        serve.run(build_graph(settings), name=APP_NAME, route_prefix="/")
    except RuntimeError:
        raise StartupError(_failure()) from None


def _failure() -> str:
    """Why the graph does not start: the message of the deployment whose constructor raised. Serve's own error does not
    say it."""
    status = serve.status().applications[APP_NAME]
    for name, deployment in status.deployments.items():
        for line in reversed(deployment.message.splitlines()):
            if "StartupError: " in line or "CheckpointError: " in line:
                return line.partition("Error: ")[2]
        if "Traceback" in deployment.message:
            return f"{name} cannot start: {deployment.message.strip().splitlines()[-1]}"
    return f"the graph cannot start: {status.message}"


def _greet(settings: Settings, host: str, port: int, weights: str) -> None:
    shown = "localhost" if host in ("0.0.0.0", "127.0.0.1", "::") else host
    url = f"http://{address_of(shown, port)}"
    if notice := WEIGHTS_NOTICES.get(weights):
        _log.warning("%s: %s", settings.model, notice)
    console.print(f"serving {settings.model} at {url} (docs at {url}/docs)")
    console.print(f"  open {url}/ in a browser to type a text and hear it")
    console.print(
        f"  curl {url}/generate --form-string 'text=Hello, how are you?' -F streaming=false -o hello.wav",
        soft_wrap=True,
    )
