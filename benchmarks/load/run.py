"""A whole load test: warm-up, every phase, the client's health, the server's memory, and what to make of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from benchmarks.common.records import Record, Run, write_records, write_run
from benchmarks.load.client import INTERRUPTED, Client, ClosedPhase, OpenPhase, open_http
from benchmarks.load.client_health import Watch
from benchmarks.load.ends import shares_ended
from benchmarks.load.environment import environment, server_facts
from benchmarks.load.one_request import UNREACHABLE, WRONG_TYPE
from benchmarks.load.server_memory import MemoryWatch
from benchmarks.load.targets import Target
from benchmarks.load.timeline import summarize
from benchmarks.load.workloads import Workload


@dataclass(frozen=True, slots=True)
class LoadTest:
    name: str
    url: str
    target: Target
    workload: Workload
    phases: Sequence[ClosedPhase | OpenPhase]
    warm_up_requests: int = 2
    timeout_seconds: float = 120.0
    server_pid: int | None = None
    command: str = ""
    skipped: tuple[str, ...] = ()
    """Scenarios that the target cannot be asked for, with the reason."""


class Screen(Protocol):
    """Shows a run while it goes."""

    def phase(self, label: str, requests: int | None, seconds: float | None) -> None: ...

    def record(self, record: Record) -> None: ...


@dataclass(slots=True)
class _State:
    interrupted: bool = False
    answers: bool = True


async def measure(test: LoadTest, screen: Screen) -> tuple[Run, list[Record]]:
    """To be cancelled for an early end: what was measured until then is returned."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    watch, memory, state = Watch(), MemoryWatch(test.server_pid), _State()
    async with open_http(test.timeout_seconds) as http, memory.running():
        client = Client(http, test.url, test.target, screen.record)
        facts: dict[str, Any] = {}
        ended: dict[float, float] = {}
        try:
            facts = await server_facts(http, test.url)
            await _phases(test, client, watch, screen, state)
            ended = await shares_ended(http, test.url, client.records, facts.get("weights"))
        except asyncio.CancelledError:
            state.interrupted = True
    is_open = isinstance(test.phases[0], OpenPhase)
    run = Run(
        name=test.name,
        target=test.target.name,
        url=test.url,
        command=test.command,
        loop="open" if is_open else "closed",
        started_at=started_at,
        environment=environment(test.workload, test.timeout_seconds, test.warm_up_requests) | facts,
        client=watch.as_dict() | {"skipped": list(test.skipped)},
        invalid_because=tuple(_objections(watch, client.records, state)),
        memory_mb=tuple(memory.samples),
        levels=tuple(
            summarize(group) | {"ended_by_itself": ended.get(group[0].level)} for group in by_level(client.records)
        ),
    )
    return run, client.records


async def _phases(test: LoadTest, client: Client, watch: Watch, screen: Screen, state: _State) -> None:
    screen.phase("warm-up", test.warm_up_requests, None)
    state.answers = await client.warm_up(test.workload.sessions(0), test.warm_up_requests, _first_level(test.phases[0]))
    if not state.answers:
        return
    for number, phase in enumerate(test.phases, start=1):
        sessions = test.workload.sessions(number)
        if isinstance(phase, ClosedPhase):
            label = f"{phase.level} at once"
            screen.phase(label, phase.limit.requests, phase.limit.seconds)
            async with watch.over(label, client.records, is_open=False):
                await client.closed(sessions, phase)
        else:
            requests = round(len(phase.arrivals) * test.workload.requests_per_session)
            screen.phase(phase.label, requests, None)
            async with watch.over(phase.label, client.records, is_open=True):
                await client.open(sessions, phase)


def save(run: Run, records: Sequence[Record], folder: Path) -> Path:
    """The run's file; its records lie beside it as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder / f"{run.name}.jsonl", records)
    write_run(folder / f"{run.name}.json", run)
    return folder / f"{run.name}.json"


def by_level(records: Sequence[Record]) -> list[list[Record]]:
    """Without the warm-up, levels in the order they came."""
    levels: dict[float, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.sent_at):
        if not record.warm_up:
            levels.setdefault(record.level, []).append(record)
    return list(levels.values())


def failure(run: Run, records: Sequence[Record]) -> str | None:
    """Why a run is nothing to go by, in one line; None for a good one."""
    first = records[0] if records else None
    if first and first.error == UNREACHABLE:
        return f"no server answers at {run.url}: {first.detail}"
    if first and first.error == WRONG_TYPE:
        return f"{run.url} does not answer as {run.target} does: {first.detail}"
    measured = [record for record in records if not record.warm_up]
    failed = [record for record in measured if record.error not in (None, INTERRUPTED)]
    if failed and len(failed) == sum(record.error != INTERRUPTED for record in measured):
        kinds = ", ".join(f"{kind} {count}x" for kind, count in Counter(r.error for r in failed).most_common())
        said = " ".join((failed[0].detail or "nothing").split())[:200]
        return f"all {len(failed)} requests failed ({kinds}); the first said: {said}"
    return "invalid: " + "; ".join(run.invalid_because) if run.invalid_because else None


def _objections(watch: Watch, records: Sequence[Record], state: _State) -> list[str]:
    objections = watch.complaints()
    if not state.answers:
        objections.append(f"the first request failed: {records[0].error}")
    elif not any(record.error is None and not record.warm_up for record in records):
        objections.append("no measured request was answered")
    if state.interrupted:
        objections.append("interrupted: the last level is not complete")
    return objections


def _first_level(phase: ClosedPhase | OpenPhase) -> float:
    if isinstance(phase, ClosedPhase):
        return phase.level
    return phase.arrivals[0].level if phase.arrivals else 0.0
