"""Each deployment's default options; a Serve config overrides them by the deployment's name."""

from typing import Any

from serve_app.settings import EngineSettings, Settings

_LONGEST_STREAM_SECONDS = 180
"""Draining waits this long for live streams: `limits.max_audio_seconds` cannot exceed 160."""

_GPU_SHARES = {"ContextEncoder": 0.15, "TokenGenerator": 0.6, "AudioDecoder": 0.25}
"""One card holds all three. They only place replicas: what each may take of the card's memory is `memory_fraction`."""

_COMMON: dict[str, Any] = {
    "graceful_shutdown_timeout_s": _LONGEST_STREAM_SECONDS,
    "graceful_shutdown_wait_loop_s": 0.5,
    "health_check_period_s": 2,
    "health_check_timeout_s": 10,
    "max_constructor_retry_count": 3,
}

_OUT_OF_THE_WAY = 1024
"""Requests at one replica, for Serve: what is above its bound waits at the caller, and is refused by nobody."""


def most_in_engine(engine: EngineSettings) -> int:
    """Requests that one generator replica keeps, running or waiting; it refuses the next one."""
    return engine.max_batch_size + engine.max_waiting


def deployment_options(settings: Settings) -> dict[str, dict[str, Any]]:
    """Options by deployment name. A stream is one ongoing request on each hop, for as long as it lasts.

    The engine decides who waits and who is refused, so its replica takes in all that may run or wait there, also where
    more may wait from some time on; and a decoder replica what may run or wait at several of them.
    CPU shares are small, so that the graph fits any machine: on one that is full, the operating system shares.
    """
    router = {
        "request_router_class": "serve_app.deployments.scaling.prefix_router:PrefixRouter",
        "request_router_kwargs": {"slots": settings.engine.max_batch_size},
    }
    streams = most_in_engine(settings.engine) + _OUT_OF_THE_WAY
    return {
        "ContextEncoder": _COMMON | {"max_ongoing_requests": 32, "ray_actor_options": {"num_cpus": 0.1}},
        "TokenGenerator": _COMMON
        | {
            "max_ongoing_requests": streams,
            "request_router_config": router,
            "ray_actor_options": {"num_cpus": 0.5},
        },
        "AudioDecoder": _COMMON | {"max_ongoing_requests": streams, "ray_actor_options": {"num_cpus": 0.3}},
        "JobRunner": _COMMON | {"ray_actor_options": {"num_cpus": 0.1}},
        "Ingress": _COMMON | {"max_ongoing_requests": _OUT_OF_THE_WAY, "ray_actor_options": {"num_cpus": 0.1}},
    }


def computes_on_gpu(settings: Settings, cluster_has_gpu: bool) -> bool:
    """`auto` goes where there is a GPU; `cuda` asks for one even where a node that has it must be started first."""
    if settings.stand_in is not None:
        return False
    return settings.device == "cuda" or (settings.device == "auto" and cluster_has_gpu)


def with_gpu_shares(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The deployments that compute, placed together on one card."""
    return options | {
        name: options[name] | {"ray_actor_options": options[name]["ray_actor_options"] | {"num_gpus": share}}
        for name, share in _GPU_SHARES.items()
    }
