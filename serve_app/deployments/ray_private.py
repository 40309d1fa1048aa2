"""Every private name of Ray that this server uses. A Ray upgrade has to check this file only.

One hook stays where Ray looks for it: `IngressDeployment.__serve_build_asgi_app__`.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray._common.tls_utils import add_port_to_grpc_server
from ray._private import parameter, ray_constants
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.worker import global_worker
from ray.serve import get_deployment_handle
from ray.serve._private import replica as serve_replica
from ray.serve._private.constants import (
    RAY_SERVE_ENABLE_HA_PROXY,
    RAY_SERVE_HAPROXY_BINARY_PATH,
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH,
    SERVE_LOGGER_NAME,
)
from ray.serve._private.request_router.common import ReplicaQueueLengthCache
from ray.serve.context import _get_global_client, _get_serve_request_context
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import ReplicaID, RequestRouter, RunningReplica
from ray.util import get_node_ip_address

from serve_app.keys.exposure import is_loopback

_KNOWN_SECONDS = 1.0
"""A queue length that is older is asked for again. Serve's 10 s are most of a stream's life."""

ALL_ADDRESSES = "0.0.0.0"


def listens_on(host: str | None) -> str | None:
    """The address that Serve listens on if its config says `host`. None if Serve does not listen."""
    return ALL_ADDRESSES if RAY_SERVE_ENABLE_HA_PROXY else host


def keep_ray_on_loopback() -> None:
    """A Ray that this process starts from now on listens on loopback only. Its processes inherit the variable.

    Ray resolves 127.0.0.1 to the machine's address wherever it may run in a cluster, which this variable denies.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def start_ray_without_helpers() -> None:
    """A Ray that this process starts has neither the autoscaler of a cluster nor the process that copies logs to a
    terminal. They are a tenth of its start and of what it does when idle, and 130 MB."""

    class Lean(parameter.RayParams):
        def __init__(self, **options: Any) -> None:
            wanted: dict[str, Any] = {"no_monitor": True, "include_log_monitor": False}
            super().__init__(**wanted | options)

    parameter.RayParams = Lean


def listen_where_ray_does() -> None:
    """Have the replica that starts in this process listen on its node's address, where Serve takes all addresses."""
    if not is_loopback(get_node_ip_address()):
        return  # others reach a node by more than one address

    def on_loopback(server: Any, address: str) -> int:
        return add_port_to_grpc_server(server, address.replace("[::]", get_node_ip_address()))

    serve_replica.add_port_to_grpc_server = on_loopback  # pyright: ignore[reportPrivateImportUsage]


def has_card() -> bool:
    """Whether this machine has a card that Ray will count. torch, which says the same, takes seconds and 400 MB."""
    hidden = NvidiaGPUAcceleratorManager.get_current_process_visible_accelerator_ids() == []
    return not hidden and NvidiaGPUAcceleratorManager.get_current_node_num_accelerators() > 0


def serve_log_folder() -> Path | None:
    """Where the replicas on this machine write their logs. None without a Ray."""
    node = global_worker.node
    return None if node is None else Path(node.get_logs_dir_path()) / "serve"


def serve_host() -> str | None:
    """The address that the Serve instance of this process listens on."""
    client = _get_global_client()
    assert client is not None, "called outside of a Serve instance"
    return listens_on(client.http_config.host)


def proxy_guard_setting() -> tuple[str, str | None]:
    """The variable that names a guard of the proxy that Serve runs here, and its value."""
    if RAY_SERVE_ENABLE_HA_PROXY:
        return "RAY_SERVE_HAPROXY_BINARY_PATH", RAY_SERVE_HAPROXY_BINARY_PATH
    return "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH


def ray_has_token() -> bool:
    """Whether the Ray of this process asks for its token on its own ports."""
    return is_token_auth_enabled()


def serve_log_handlers() -> list[logging.Handler]:
    """The handlers that write a replica's own log file."""
    return logging.getLogger(SERVE_LOGGER_NAME).handlers


def is_draining() -> bool:
    """Whether Serve stops this replica: it gets no more requests, and ends once those that it has are over."""
    actors = global_worker.actors.values()
    return any(getattr(getattr(actor, "_replica_impl", None), "_shutting_down", False) for actor in actors)


def http_request_id() -> str:
    """The id of the HTTP request behind the current call. Serve passes it on to every deployment."""
    return _get_serve_request_context().request_id


def handle_of(deployment: str, application: str) -> DeploymentHandle:
    """A handle into another application. The application may be deployed later."""
    return get_deployment_handle(deployment, application, _check_exists=False)


def streaming(handle: DeploymentHandle) -> DeploymentHandle:
    """The handle with streamed answers, sent by value over gRPC."""
    # Against object references: three times the messages a second at a fifth of the latency.
    # Pickle, not cloudpickle: messages are plain dataclasses, and pickle writes them in half the time.
    return handle.options(stream=True, _by_reference=False, response_serialization="pickle")


def by_reference(handle: DeploymentHandle) -> DeploymentHandle:
    """The handle with arguments sent through the object store in every profile: gRPC refuses more than 4 MiB."""
    return handle.options(_by_reference=True)


def runs_alone(handle: DeploymentHandle) -> bool:
    """Whether the deployment has one replica, as far as this process knows. False before the first request."""
    router = getattr(getattr(handle, "_router", None), "_asyncio_router", None)
    known = getattr(router, "request_router", None)
    return known is not None and len(known.curr_replicas) == 1


class ExactRequestRouter(RequestRouter):
    """Gives each replica to the request that it was chosen for, and counts that request when it is chosen.

    Serve looks the request up by the id of the HTTP request. Two calls of one HTTP request share that id, so the second
    is never found. Serve also counts a request only when it is sent: of requests that arrive together, all would see
    the same replica idle.
    """

    def __init__(self, *args: Any, get_curr_time_s: Callable[[], float] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, get_curr_time_s=get_curr_time_s, **kwargs)
        self._replica_queue_len_cache = ReplicaQueueLengthCache(
            staleness_timeout_s=_KNOWN_SECONDS, get_curr_time_s=get_curr_time_s
        )

    async def queue_lengths(self, replicas: Sequence[RunningReplica]) -> Mapping[ReplicaID, int | None]:
        """Requests that each replica runs or keeps waiting. None for a replica that does not answer."""
        lengths = {replica.replica_id: self.replica_queue_len_cache.get(replica.replica_id) for replica in replicas}
        unknown = [replica for replica in replicas if lengths[replica.replica_id] is None]
        return lengths | {replica.replica_id: length for replica, length in await self._probe_queue_lens(unknown, 0)}

    async def _select_from_candidate_replicas(
        self, candidates: list[RunningReplica], backoff_index: int
    ) -> RunningReplica | None:
        # A lone replica refuses what is too much for it. To ask how busy it is would only cost a round trip.
        if len(candidates) == len(self.curr_replicas) == 1 and backoff_index == 0:
            return candidates[0]
        return await super()._select_from_candidate_replicas(candidates, backoff_index)

    def _fulfill_next_pending_request(self, replica: RunningReplica, request_metadata: Any = None) -> None:
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                self._cancel_routing_task_for_pending_request(pending)
                self._record_queue_wait_time(pending)
                pending.future.set_result(replica)
                self._remove_pending_request_from_indices(pending)
                super().on_send_request(replica.replica_id)
                return

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Called by Serve. The request was counted when its replica was chosen."""


def checked_cluster_config(config: dict[str, Any]) -> dict[str, Any]:
    """A cluster.yaml with Ray's defaults filled in. Raises what Ray's schema check raises."""
    # Only the command line checks cluster files: replicas need not import the autoscaler.
    from ray.autoscaler._private.util import prepare_config, validate_config

    filled = prepare_config(config)
    validate_config(filled)
    return filled
