"""Each deployment's default options. A Serve config overrides them by the deployment's name."""

from typing import Any

from serve_app.settings import EngineSettings, Settings

_DRAIN_SECONDS = 180
"""Draining waits this long for running streams. Longer ones then continue on another replica."""

_GPU_SHARES = {"ContextEncoder": 0.15, "TokenGenerator": 0.6, "AudioDecoder": 0.25}
"""One card holds all of them. The shares only place replicas. `memory_fraction` limits their memory."""

_COMMON: dict[str, Any] = {
    "graceful_shutdown_timeout_s": _DRAIN_SECONDS,
    "graceful_shutdown_wait_loop_s": 0.5,
    "health_check_period_s": 1,
    "health_check_timeout_s": 10,
    "max_constructor_retry_count": 3,
}

_ONLY_WHEN_ASKED: dict[str, Any] = {
    "min_replicas": 0,
    "initial_replicas": 0,
    "max_replicas": 2,
    "target_ongoing_requests": 4,
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 600.0,
}
"""No process runs before the first call, which waits some seconds for one, and none ten minutes after the last."""

_NO_BOUND = 1024
"""Requests at one replica, as a bound for Serve that is never reached. Beyond its bound, requests wait at the caller,
where none is refused."""


def most_in_engine(engine: EngineSettings) -> int:
    """Requests that one generator replica runs and keeps waiting. It refuses the next one."""
    return engine.max_batch_size + engine.max_waiting


def deployment_options(settings: Settings) -> dict[str, dict[str, Any]]:
    """Options by deployment name. A stream is one ongoing request on each hop, for as long as it lasts.

    The engine decides which requests wait and which are refused. So its replica takes all requests that may run or wait
    there, also after `max_waiting` was raised, and a decoder replica takes those of several engines.
    CPU shares are small, so that the graph fits any machine. On a full machine the operating system divides the cores.
    """
    router = {
        "request_router_class": "serve_app.deployments.scaling.prefix_router:PrefixRouter",
        "request_router_kwargs": {"slots": settings.engine.max_batch_size},
    }
    streams = most_in_engine(settings.engine) + _NO_BOUND
    options = {
        "ContextEncoder": _COMMON | {"max_ongoing_requests": _NO_BOUND, "ray_actor_options": {"num_cpus": 0.1}},
        "TokenGenerator": _COMMON
        | {
            "max_ongoing_requests": streams,
            "request_router_config": router,
            "ray_actor_options": {"num_cpus": 0.5},
        },
        "AudioDecoder": _COMMON | {"max_ongoing_requests": streams, "ray_actor_options": {"num_cpus": 0.3}},
        "WordAligner": _COMMON
        | {
            "max_ongoing_requests": 16,
            "autoscaling_config": _ONLY_WHEN_ASKED,
            "ray_actor_options": {"num_cpus": 0.1},
        },
        "JobRunner": _COMMON
        | {
            "graceful_shutdown_timeout_s": max(_DRAIN_SECONDS, settings.jobs.drain_seconds + 30),
            "ray_actor_options": {"num_cpus": 0.1},
        },
        "Ingress": _COMMON
        | {
            # A client's connection ends with its ingress replica, so draining waits for the longest answer.
            "graceful_shutdown_timeout_s": max(_DRAIN_SECONDS, settings.limits.max_audio_seconds + 20),
            "max_ongoing_requests": _NO_BOUND,
            "max_surge_percent": 100,  # it is small: in an update the new one starts before the old one stops
            "ray_actor_options": {"num_cpus": 0.1},
        },
    }
    return _fused(options) if settings.graph == "fused" else options


def _fused(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Decoders do the generators' work too, so requests are routed to them as to generators."""
    generator, decoder = options.pop("TokenGenerator"), options["AudioDecoder"]
    actor = {"num_cpus": generator["ray_actor_options"]["num_cpus"] + decoder["ray_actor_options"]["num_cpus"]}
    return options | {"AudioDecoder": generator | {"ray_actor_options": actor}}


def computes_on_gpu(settings: Settings, cluster_has_gpu: bool) -> bool:
    """Whether replicas ask for a GPU. With `cuda` they do even if a node with one must be started first."""
    if settings.stand_in is not None:
        return False
    return settings.device == "cuda" or (settings.device == "auto" and cluster_has_gpu)


def with_gpu_shares(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options with GPU shares, so that one card holds all deployments that compute."""
    shares = dict(_GPU_SHARES)
    if "TokenGenerator" not in options:
        shares["AudioDecoder"] += shares.pop("TokenGenerator")
    return options | {
        name: options[name] | {"ray_actor_options": options[name]["ray_actor_options"] | {"num_gpus": share}}
        for name, share in shares.items()
    }
