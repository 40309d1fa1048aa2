"""The servers whose data paths are compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.common.server_process import Server, free_port, own_ray, started

_MAX_STREAMS = 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """A server by name. `environment` is what makes it differ from Ray Serve's defaults."""

    name: str
    about: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


_SLOTS = {
    "CSM_ENGINE__MAX_STEP_MS": "0",  # at its pace, one stream would be all that keeps up
    "CSM_ENGINE__MAX_BATCH_SIZE": str(_MAX_STREAMS),
    "CSM_CODEC__MAX_STREAMS": str(_MAX_STREAMS),
}
_AT_ITS_PACE = {
    "CSM_STAND_IN__STEP_MS_BY_BATCH": '{"1": 80}',
    "CSM_ENGINE__CHUNK_RESERVE_MS": "0",  # else messages would not grow; and the bare process sends the same ones
}
_AHEAD_OF_LISTENERS = {"CSM_STAND_IN__STEP_MS_BY_BATCH": '{"1": 20}'}
_GRAPH = ("-c", "from serve_app.cli import main; main()", "serve", "--model", "stand-in", "--host", "127.0.0.1")
PROFILES = (
    Profile("bare", "one FastAPI process", ("-m", "benchmarks.datapath.bare")),
    Profile("default", "our graph behind Serve's Python proxy", _GRAPH),
    Profile("fused", "the same, generator and decoder in one process", _GRAPH, {"CSM_GRAPH": "fused"}),
    Profile(
        "haproxy",
        "our graph, throughput-optimised, behind HAProxy",
        _GRAPH,
        # HAProxy listens on all addresses.
        {
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "CSM_KEYS__OPEN": "true",
            "CSM_KEYS__OPEN_RAY": "true",
        },
    ),
)


@contextmanager
def running(profile: Profile, has_lead: bool = False) -> Iterator[Server]:
    """Ready when entered. Raises CannotStart. has_lead: listeners soon have seconds in hand, and messages are large."""
    port = free_port()
    command = [*profile.command, "--port", str(port)]
    pace = _AHEAD_OF_LISTENERS if has_lead else _AT_ITS_PACE
    with started(command, own_ray() | _SLOTS | pace | profile.environment, f"http://127.0.0.1:{port}") as server:
        yield server
