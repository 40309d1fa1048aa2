"""What every replica needs around its service: its identity, its log, its CPU threads, and a timer that publishes."""

import asyncio
import ctypes
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import ray
from ray import serve

from serve_app import log
from serve_app.deployments.ray_private import http_request_id, listen_where_ray_does, serve_log_handlers
from serve_app.errors import GenerationFailed
from serve_app.settings import Settings

_log = logging.getLogger(__name__)

_PUBLISH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ReplicaIdentity:
    """`application` and `deployment` are names in Serve, `id` is unique among all replicas."""

    application: str
    deployment: str
    id: str


def set_up_replica(settings: Settings) -> ReplicaIdentity:
    """The identity of this replica. From now on, this package's log records go to the replica's own log file."""
    listen_where_ray_does()
    replica = serve.get_replica_context().replica_id
    identity = ReplicaIdentity(replica.deployment_id.app_name, replica.deployment_id.name, replica.unique_id)
    origin = {"deployment": identity.deployment, "replica": identity.id}
    log.set_up(settings.log_level, serve_log_handlers(), settings.log_format, origin)
    return_memory()
    return identity


def return_memory() -> None:
    """Give the system what imports have freed, which the C library would keep.

    It is some 10 MB of a process that has compiled Python's files itself, as all do at a first start.
    """
    with suppress(AttributeError):  # glibc's own
        ctypes.CDLL(None).malloc_trim(0)


def log_http_request_id() -> None:
    """Log records of this call carry the id of the HTTP request. For calls that bring no request id of their own."""
    log.current_request_id.set(http_request_id())


def with_threads(settings: Settings, section: Literal["engine", "codec"]) -> Settings:
    """The settings with `threads` of that section set to the whole CPUs that Ray gave this replica, if it is 0.

    It stays 0, which takes half of the machine, if the replica has a share below one CPU: such shares only place it.
    """
    values = getattr(settings, section)
    cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0))
    if values.threads or cpus < 1:
        return settings
    return settings.model_copy(update={section: values.model_copy(update={"threads": cpus})})


class Publisher:
    """Calls `publish` once a second while the replica lives, so that no metric is sent per frame.

    Keep a reference to it: the event loop keeps none to its task.
    """

    def __init__(self, publish: Callable[[], Awaitable[None]], period_seconds: float = _PUBLISH_SECONDS) -> None:
        self._publish = publish
        self._period_seconds = period_seconds
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                await self._publish()
                await asyncio.sleep(self._period_seconds)
        except GenerationFailed:
            # The health check fails too, and Serve replaces the replica.
            _log.warning("this replica stops publishing metrics: its model thread has failed")
