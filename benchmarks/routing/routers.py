"""Serve's router objects without Serve: as a caller's process holds them, on a clock that a simulation moves."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from ray.serve._private.common import DeploymentHandleSource, DeploymentID, RequestMetadata
from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter

from serve_app.deployments.scaling.prefix_router import PrefixRouter
from serve_app.messages import GenerationRequest

_DEPLOYMENT = DeploymentID("TokenGenerator", "csm")
_numbers = count()


def replica_id(number: int) -> ReplicaID:
    return ReplicaID(f"replica-{number}", _DEPLOYMENT)


class Router:
    """One caller's router over replicas. `by_voice` is ours, otherwise Serve's own."""

    def __init__(self, by_voice: bool, slots: int, replicas: Sequence[Any], clock: Callable[[], float]) -> None:
        kind = PrefixRouter if by_voice else PowerOfTwoChoicesRequestRouter
        self._router: RequestRouter = kind(
            deployment_id=_DEPLOYMENT,
            handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
            get_curr_time_s=clock,
        )
        self._router.initialize_state(**({"slots": slots} if by_voice else {}))
        self._router.update_replicas(list(replicas))

    async def choose(self, request: GenerationRequest) -> ReplicaID:
        number = str(next(_numbers))
        metadata = RequestMetadata(request_id=number, internal_request_id=number)
        pending = PendingRequest(args=[request], kwargs={}, metadata=metadata)
        chosen = await self._router._choose_replica_for_request(pending)
        self._router.on_send_request(chosen.replica_id)
        return chosen.replica_id

    def began(self, replica: ReplicaID, load: int) -> None:
        """The replica has taken the request and said how many it has now."""
        self._router.on_new_queue_len_info(replica, load)

    def ended(self, replica: ReplicaID) -> None:
        self._router.decrement_queue_len_cache(replica)
