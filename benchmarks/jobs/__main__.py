"""The queue: jobs taken a second, the CPU of a status, and jobs ended a second.

    python -m benchmarks.jobs
    python -m benchmarks.jobs --database postgresql://...

A stand-in speaks two frames a job in no time, so that the queue is what is measured. All figures are through HTTP.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.process_cpu import cpu_seconds, spent
from benchmarks.common.server_process import Server
from benchmarks.scaling.served import served

_QUEUE = "/fal/queue/fal-ai/csm-1b"
_CLIENTS = 8
_STATUS_SECONDS = 10.0
_ENDED_SECONDS = 180.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--database", help="of the server; SQLite if left out")
    options = parser.parse_args()
    args: dict[str, Any] = {
        "model": "stand-in",
        "stand_in": {"step_ms_by_batch": {"1": 0.0}, "frames": 2},
        "engine": {"max_batch_size": 16, "max_step_ms": 0},
        "jobs": {"max_running": 8, "max_queued": 2 * options.jobs, "max_queued_per_key": 2 * options.jobs},
    }
    if options.database:
        args["database"] = {"url": options.database}
    with served(args, {}) as server:
        rows = asyncio.run(_measure(server, options.jobs))
    kind = "PostgreSQL" if options.database else "SQLite"
    command = f"python -m benchmarks.jobs --jobs {options.jobs}" + (" --database ..." if options.database else "")
    saved = results_file.write(f"jobs-{kind.lower()}", "cpu", rows, command)
    Console(width=120).print(_table(rows, kind), f"saved as {saved}")


async def _measure(server: Server, num_jobs: int) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        await _submit(client, 0)
        ids: list[str] = []
        numbers = itertools.count(1)

        async def submit() -> None:
            ids.append(await _submit(client, next(numbers)))

        began = time.monotonic()
        submitted = await _counted(server, "submitted", submit, num_jobs)
        ended_seconds = await _until_ended(client, num_jobs + 1) - began
        turn = itertools.cycle(ids)

        async def ask() -> None:
            (await client.get(f"{_QUEUE}/requests/{next(turn)}/status")).raise_for_status()

        statuses = await _counted(server, "statuses", ask, None)
    return [submitted, {"what": "ended", "a_second": round(num_jobs / ended_seconds, 1)}, statuses]


async def _submit(client: httpx.AsyncClient, number: int) -> str:
    """Equal submits at the same time would count as one job, so each has a text of its own."""
    scene = {"scene": [{"speaker_id": 0, "text": f"Job number {number}."}]}
    return (await client.post(_QUEUE, json=scene)).raise_for_status().json()["request_id"]


async def _counted(
    server: Server, what: str, work: Callable[[], Awaitable[None]], number: int | None
) -> dict[str, Any]:
    """`work` by several clients, so many times altogether, or for ten seconds; and its CPU time by role."""
    before, began, done = cpu_seconds(server.pid), time.monotonic(), 0

    async def repeat() -> None:
        nonlocal done
        while time.monotonic() < began + _STATUS_SECONDS if number is None else done < number:
            done += 1
            await work()

    await asyncio.gather(*(repeat() for _ in range(_CLIENTS)))
    seconds = time.monotonic() - began
    used = spent(before, cpu_seconds(server.pid))
    cpu_ms = {role: round(1000 * value / done, 2) for role, value in used.items() if value / seconds > 0.01}
    return {"what": what, "a_second": round(done / seconds, 1), "cpu_ms_each": cpu_ms}


async def _until_ended(client: httpx.AsyncClient, number: int) -> float:
    """When the last of so many jobs had ended, by the monotonic clock."""
    deadline = time.monotonic() + _ENDED_SECONDS
    while time.monotonic() < deadline:
        states = [job["state"] for job in (await client.get(f"/jobs?limit={number}")).raise_for_status().json()["jobs"]]
        if len(states) >= number and not {"queued", "running"} & set(states):
            failed = len(states) - states.count("completed")
            assert not failed, f"{failed} jobs failed"
            return time.monotonic()
        await asyncio.sleep(0.2)
    raise SystemExit(f"{number} jobs did not end within {_ENDED_SECONDS:.0f} s")


def _table(rows: Sequence[dict[str, Any]], kind: str) -> Table:
    table = Table(title=f"{results_file.processor()}: jobs by {kind}, {_CLIENTS} clients")
    for title in ("", "a second", "CPU-ms each"):
        table.add_column(title, justify="right")
    for row in rows:
        costs = row.get("cpu_ms_each", {})
        each = ", ".join(f"{role} {ms}" for role, ms in sorted(costs.items(), key=lambda item: -item[1]))
        table.add_row(row["what"], str(row["a_second"]), f"{sum(costs.values()):.1f} ({each})" if costs else "")
    return table


if __name__ == "__main__":
    main()
