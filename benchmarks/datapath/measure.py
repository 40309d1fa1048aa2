"""Measures one server: first bytes alone and under load, CPU by role, and how many streams it carries."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.common.process_cpu import cpu_seconds, machine_busy_seconds, spent
from benchmarks.common.server_process import Server
from benchmarks.datapath.client import SETTLE_SECONDS, Client, Level, Stream, chunks_between
from benchmarks.datapath.figures import FRAME_SECONDS, Cost, Limit, costs, find_limit, milliseconds
from benchmarks.load.client_health import Health, Watch

Say = Callable[[str], None]
_PROBE_SECONDS = 2 * FRAME_SECONDS
_WARM_UP_PROBES = 4
_PAUSE_SECONDS = 0.5
_MAX_OTHERS_CORES = 0.25
_ALONE, _LOADED = "one by one", "while CPU was counted"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and for how long."""

    streams: int = 16
    lead_seconds: float = 0.0
    """How long streams go on before CPU is counted, until listeners have something in hand. Above 0, nothing else is
    measured."""
    probes: int = 12
    idle_seconds: float = 3.0
    window_seconds: float = 6.0
    hold_seconds: float = 3.0
    first_level: int = 64
    largest_level: int = 768
    search_seconds: float = 55.0


async def measure(server: Server, plan: Plan, say: Say) -> dict[str, Any]:
    """One row of the result."""
    client, watch = Client(server.url), Watch()
    try:
        if plan.lead_seconds:
            return await _cost_with_a_lead(server, client, watch, plan, say)
        say(f"first bytes, {plan.probes} streams one by one")
        async with watch.over(_ALONE, [], False):
            alone = (await _probe(client, plan.probes + _WARM_UP_PROBES))[_WARM_UP_PROBES:]
        row: dict[str, Any] = {"alone": _first_bytes(alone)} | await _cost(server, client, watch, plan, say)
        limit, levels = await _limit(server, client, watch, plan, say)
        others: dict[str, float] = {_label(level["streams"]): level["others_cores"] for level in levels}
        others[_LOADED] = row["others_cores"]
        invalid = doubts(watch.phases, others, limit)
        return row | {"limit": asdict(limit), "levels": levels, "client": watch.as_dict(), "invalid_because": invalid}
    finally:
        await client.close()


async def _probe(client: Client, number: int) -> list[Stream]:
    """Short streams one after the other, begun at every phase of the engine's steps."""
    streams = []
    for turn in range(number):
        streams.append(await client.listen(_PROBE_SECONDS, seed=turn))
        # A whole step and more: an engine that was idle starts its steps afresh.
        await asyncio.sleep(FRAME_SECONDS * (1.1 + turn / number))
    return streams


async def _cost_with_a_lead(server: Server, client: Client, watch: Watch, plan: Plan, say: Say) -> dict[str, Any]:
    counted = await _count(server, client, watch, plan, say, SETTLE_SECONDS)
    streams = await counted.level.streams()
    others = {_LOADED: counted.window.others_cores}
    return _costs_row(counted, streams, plan) | {"invalid_because": doubts(watch.phases, others, None)}


async def _cost(server: Server, client: Client, watch: Watch, plan: Plan, say: Say) -> dict[str, Any]:
    # The probes come after the window, beside the same streams.
    counted = await _count(server, client, watch, plan, say, plan.probes * FRAME_SECONDS * 5.5)
    say(f"first bytes beside {plan.streams} streams")
    probes = await _probe(client, plan.probes)
    streams = await counted.level.streams()
    return _costs_row(counted, [*streams, *probes], plan) | {
        "loaded": _first_bytes(probes),
        "worst_lateness_ms": _worst_ms(streams, counted.level.settled_at),
    }


async def _count(
    server: Server, client: Client, watch: Watch, plan: Plan, say: Say, seconds_after: float
) -> "_Counted":
    """CPU of a level of streams, which go on for `seconds_after`. The first, smaller chunks are left out."""
    say("CPU with nothing to do")
    idle = await _spent_over(server, plan.idle_seconds)
    after = f", after {plan.lead_seconds:.0f} s" if plan.lead_seconds else ""
    say(f"CPU of {plan.streams} streams, {plan.window_seconds:.0f} s{after}")
    level = client.level(plan.streams, plan.lead_seconds + plan.window_seconds + seconds_after)
    await level.settled()
    await asyncio.sleep(plan.lead_seconds)
    began = time.perf_counter()
    async with watch.over(_LOADED, [], False):
        window = await _spent_over(server, plan.window_seconds)
    return _Counted(level, idle, window, began, time.perf_counter())


def _costs_row(counted: "_Counted", streams: Sequence[Stream], plan: Plan) -> dict[str, Any]:
    chunks = chunks_between(streams, counted.began, counted.ended)
    found = _costs(counted.idle, counted.window, chunks, plan.streams)
    return {
        "streams": plan.streams,
        "cpu": {role: asdict(cost) for role, cost in found.items()},
        "others_cores": counted.window.others_cores,
        "errors": [stream.error for stream in streams if stream.error],
    }


@dataclass(frozen=True, slots=True)
class Window:
    """CPU seconds: by role of the server and the client, and of everything else on the machine."""

    seconds: float
    by_role: dict[str, float]
    others: float

    @property
    def others_cores(self) -> float:
        return round(self.others / self.seconds, 2)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A level of streams that goes on, and the window over which its CPU was counted."""

    level: Level
    idle: Window
    window: Window
    began: float
    ended: float


class _Meter:
    """Runs from its making."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._began = self._read()

    def window(self) -> Window:
        began, ended = self._began, self._read()
        by_role = spent(began[1], ended[1])
        others = max(0.0, ended[2] - began[2] - sum(by_role.values()))
        return Window(ended[0] - began[0], by_role, others)

    def _read(self) -> tuple[float, dict[str, float], float]:
        roles = cpu_seconds(self._server.pid) | {"client": time.process_time()}
        return time.perf_counter(), roles, machine_busy_seconds()


async def _spent_over(server: Server, seconds: float) -> Window:
    meter = _Meter(server)
    await asyncio.sleep(seconds)
    return meter.window()


def _costs(idle: Window, window: Window, chunks: int, streams: int) -> dict[str, Cost]:
    per_second = {role: seconds / idle.seconds for role, seconds in idle.by_role.items()}
    return costs(window.by_role, per_second, window.seconds, chunks, streams)


async def _limit(
    server: Server, client: Client, watch: Watch, plan: Plan, say: Say
) -> tuple[Limit, list[dict[str, Any]]]:
    levels: list[dict[str, Any]] = []
    longest, deadline = 0.0, time.perf_counter() + plan.search_seconds

    async def attempt(number: int) -> bool:
        nonlocal longest
        meter = _Meter(server)
        async with watch.over(_label(number), [], False):
            level = client.level(number, plan.hold_seconds)
            streams = await level.streams()
        window = meter.window()
        longest = max(longest, window.seconds)
        levels.append(found := _level(number, streams, level.settled_at, window))
        outcome = f"{found['failed']} starved" if found["failed"] else "all well"
        say(f"{_label(number)}: {outcome}, the worst {found['worst_lateness_ms']} ms late")
        await asyncio.sleep(_PAUSE_SECONDS)
        return not found["failed"]

    def has_time() -> bool:
        return time.perf_counter() + longest < deadline

    async def goes_well(number: int) -> bool:
        # Whatever else runs on the machine may have taken the moment: a level fails twice or not at all.
        return await attempt(number) or (has_time() and await attempt(number))

    return await find_limit(goes_well, plan.first_level, plan.largest_level, has_time), levels


def _level(number: int, streams: Sequence[Stream], since: float, window: Window) -> dict[str, Any]:
    return {
        "streams": number,
        "failed": sum(stream.failed(since) for stream in streams),
        "worst_lateness_ms": _worst_ms(streams, since),
        "errors": dict(Counter(stream.error for stream in streams if stream.error)),
        "cores": {role: round(seconds / window.seconds, 2) for role, seconds in window.by_role.items()},
        "others_cores": window.others_cores,
    }


def _label(streams: int) -> str:
    return f"{streams} at once"


def doubts(phases: Sequence[Health], others_cores: Mapping[str, float], limit: Limit | None) -> list[str]:
    """Why the figures may be the client's or the machine's, of the phases that they rest on.

    A level that went well did so in spite of it, and one beyond the first that failed says nothing.
    """
    decisive = [_ALONE, _LOADED] + ([_label(limit.fewest_failing)] if limit and limit.fewest_failing else [])
    client = [text for phase in phases if phase.label in decisive for text in phase.complaints()]
    return client + [
        f"{label}: other processes took {others_cores[label]:.2f} cores, of at most {_MAX_OTHERS_CORES:.2f}"
        for label in decisive
        if others_cores.get(label, 0.0) > _MAX_OTHERS_CORES
    ]


def _first_bytes(streams: Sequence[Stream]) -> dict[str, float | None]:
    byte = milliseconds([s.first_byte_seconds for s in streams if s.first_byte_seconds is not None], 50, 95)
    audio = milliseconds([s.first_audio_seconds for s in streams if s.first_audio_seconds is not None], 50, 95)
    return dict(zip(("byte_p50_ms", "byte_p95_ms", "audio_p50_ms", "audio_p95_ms"), byte + audio, strict=True))


def _worst_ms(streams: Sequence[Stream], since: float) -> float | None:
    late = [stream.late_seconds(since) for stream in streams]
    return max((round(seconds * 1000, 1) for seconds in late if seconds is not None), default=None)
