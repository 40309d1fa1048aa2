"""Runs a server on this machine: starts Ray and the graph, and stops them on a signal."""

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from serve_app import log
from serve_app.app import build_graph
from serve_app.cli.children import children, end
from serve_app.cli.listening import address_of
from serve_app.cli.loading import showing_progress
from serve_app.cli.machine import compiler
from serve_app.cli.progress import progress, say
from serve_app.cli.request_lines import shown_requests
from serve_app.cli.start_errors import ray_failure, require_data_folder, require_ray
from serve_app.deployments.one_machine import prepare_environment
from serve_app.deployments.options import deployment_options, with_gpu_shares
from serve_app.deployments.proxy_guard import PROXY_GUARDS
from serve_app.deployments.ray_private import (
    has_card,
    keep_ray_on_loopback,
    listens_on,
    serve_log_folder,
    start_ray_without_helpers,
)
from serve_app.errors import StartupError
from serve_app.keys.exposure import check_exposure, check_ray_authentication, is_loopback
from serve_app.messages import WEIGHTS_NOTICES
from serve_app.model.apart import weights_of
from serve_app.preflight.placement import check_shares, replicas_of
from serve_app.preflight.serve_config import OurApplication
from serve_app.settings import STAND_IN, Settings

APP_NAME = "csm"
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_log = logging.getLogger(__name__)


def serve_until_stopped(settings: Settings, host: str, port: int) -> None:
    """Start, print the address, wait for SIGINT, SIGTERM or SIGHUP. Raises StartupError if the server cannot start.

    host: without brackets. The caller has checked that the port is free.
    """
    log.set_up(settings.log_level, log_format=settings.log_format)
    check_exposure(settings.keys, listens_on(host))
    # Ray starts with a token unless it is told not to.
    check_ray_authentication(settings.keys, listens_on(host), os.environ.get("RAY_AUTH_MODE", "token") == "token")
    if not _is_local():
        require_ray(os.environ["RAY_ADDRESS"])
    _check_cards(settings)
    _warn_of_a_missing_compiler(settings)
    weights = _find_checkpoint(settings)
    if settings.database.url is None or settings.files.url is None:
        require_data_folder(settings.data_dir)
    try:
        if _is_local():
            settings = _on_one_machine(settings, host)
        with progress("starting Ray"):
            _start_ray(host, port)
        with showing_progress(f"loading {settings.model}", APP_NAME):
            _run_graph(settings)
        _greet(settings, host, port, weights)
        with shown_requests(serve_log_folder()):
            _stop_on_signal().wait()
            with suppress(OSError):  # a terminal that hangs up stops the server and takes no more lines
                say("stopping: running streams may finish; interrupt again to end them now")
            # Not serve.shutdown(): it kills its controller during a task, which Ray reports as a failure.
            serve.delete(APP_NAME)
    finally:
        ray.shutdown()


def _on_one_machine(settings: Settings, host: str) -> Settings:
    """For a Ray that starts here: it listens no further than the server, and keeps a process for the next replica."""
    if is_loopback(listens_on(host) or host):
        keep_ray_on_loopback()
    start_ray_without_helpers()
    prepare_environment()
    return settings.model_copy(update={"failover": settings.failover.model_copy(update={"spare_process": True})})


def _stop_on_signal() -> threading.Event:
    """An event that the first signal to stop sets. A second one ends the process. Call it after Ray has started,
    since Ray installs its own handlers."""
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)

    for number in _STOPPING:
        signal.signal(number, stop)
    return stopped


def _find_checkpoint(settings: Settings) -> str:
    """The kind of the checkpoint's weights. It is fetched here, if need be, so that the progress shows.

    This process stays without torch, which it would keep for as long as the server runs.
    """
    if settings.stand_in is not None:
        _log.warning("serving a stand-in: it makes tones to measure this server, there is no model")
        return STAND_IN
    with progress(f"opening {settings.model}"):
        return weights_of(settings.model, settings.revision, settings.base)


def _check_cards(settings: Settings) -> None:
    """Raises StartupError where this machine has no card for what asks for one: Serve would wait for it forever."""
    if not _is_local() or settings.stand_in is not None:
        return
    if not has_card():
        if settings.device == "cuda":
            raise StartupError("device: Ray finds no CUDA device on this machine; use --device cpu or auto")
    elif settings.device != "cpu":
        options = with_gpu_shares(deployment_options(settings))
        check_shares(replicas_of(OurApplication("", "", {}, []), options), settings)


def _warn_of_a_missing_compiler(settings: Settings) -> None:
    """Replicas say it too, in their own logs."""
    if settings.stand_in is None and (missing := compiler()).is_good is None:
        _log.warning("C++ compiler: none; %s", missing.remedy)


def _start_ray(host: str, port: int) -> None:
    """Ray, and Serve in it. Raises StartupError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for variable, guard in PROXY_GUARDS.items():
        if not guard.startswith("/") or os.path.exists(guard):  # a checkout that is not installed has no commands
            os.environ.setdefault(variable, guard)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    local: dict[str, Any] = {"address": "local", "include_dashboard": False} if _is_local() else {}
    try:
        _init_ray(local | quiet)
        serve.start(http_options={"host": host, "port": port}, logging_config=LoggingConfig(enable_access_log=False))
    except Exception as error:
        _log.debug("Ray does not start", exc_info=error)
        raise ray_failure(error) from error


def _init_ray(options: dict[str, Any]) -> None:
    """Ray gives a node 30 s to start. A busy machine may need more at first, when nothing is in its caches."""
    others = children()
    try:
        ray.init(**options)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        _log.warning("Ray did not start within its 30 s: trying once more")
        ray.shutdown()
        end(children() - others)  # Ray does not know a node that was not ready in time, and would leave its processes.
        ray.init(**options)


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
    key = " -H 'Authorization: Key ID:SECRET'" if settings.keys.required else ""
    say(f"serving {settings.model} (docs at {url}/docs); each request becomes a line below")
    say(
        f"  curl {url}/generate{key} --form-string 'text=Hello, how are you?' -F streaming=false -o hello.wav",
    )
    say(f"  open {url}/ in a browser to type a text and hear it")
