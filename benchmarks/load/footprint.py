"""What a server takes of its machine: CPU and memory when idle, and CPU for each second of audio under load.

    python -m benchmarks.load.footprint --model demo --streams 1,8

Starts the server. CPU time is counted by process, so other work on the machine hardly changes it. Memory is the
proportional share (PSS): pages that processes share count once.
"""

import argparse
import asyncio
import time
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.process_cpu import cpu_seconds, memory_bytes, spent
from benchmarks.common.server_process import Server, free_port, own_ray, started

TEXT = "The quick brown fox jumps over the lazy dog, and says so. It was a good day for all of them. " * 3
_SERVE = ("-c", "from serve_app.cli import main; main()", "serve")
_BYTES_PER_SECOND = 48_000
_SETTLE_SECONDS = 12.0
"""After the start: replicas that were just made still collect garbage and report for the first time."""
_console = Console(width=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--streams", default="1,8", help="at once; each begins anew when it has ended")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each figure")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE in the server's environment")
    options = parser.parse_args()
    port = free_port()
    command = [*_SERVE, "--model", options.model, "--host", "127.0.0.1", "--port", str(port)]
    environment = own_ray() | dict(pair.split("=", 1) for pair in options.set)
    with started(command, environment, f"http://127.0.0.1:{port}", ready_seconds=300) as server:
        rows = asyncio.run(_measure(server, [int(n) for n in options.streams.split(",")], options.seconds))
    for row in rows:
        _console.print(_table(row))
    given = [f"--model {options.model} --streams {options.streams} --seconds {options.seconds:g}"]
    given += [f"--set {pair}" for pair in options.set]
    command_line = f"python -m benchmarks.load.footprint {' '.join(given)}"
    _console.print(f"saved as {results_file.write('footprint', 'cpu', rows, command_line)}")


async def _measure(server: Server, levels: list[int], seconds: float) -> list[dict[str, Any]]:
    await asyncio.sleep(_SETTLE_SECONDS)
    before = cpu_seconds(server.pid)
    await asyncio.sleep(seconds)
    idle = spent(before, cpu_seconds(server.pid))
    rows = [
        _row("idle, CPU-ms a second", {role: value * 1000 / seconds for role, value in idle.items()}),
        _row("idle, MB", {role: value / 1e6 for role, value in memory_bytes(server.pid).items()}),
    ]
    async with httpx.AsyncClient(timeout=120, base_url=server.url) as client:
        await _listen(client, 0.0)
        rows += [await _loaded(client, server, streams, seconds) for streams in levels]
    return rows


async def _loaded(client: httpx.AsyncClient, server: Server, streams: int, seconds: float) -> dict[str, Any]:
    """Idling included: it is part of what a listener costs."""
    before, until = cpu_seconds(server.pid), time.perf_counter() + seconds
    heard = await asyncio.gather(*(_listen(client, until) for _ in range(streams)))
    used, audio_seconds = spent(before, cpu_seconds(server.pid)), sum(heard)
    per_second = {role: value * 1000 / audio_seconds for role, value in used.items()}
    return _row(f"{streams} at once, CPU-ms an audio-second", per_second) | {"audio_seconds": round(audio_seconds, 1)}


async def _listen(client: httpx.AsyncClient, until: float) -> float:
    """Seconds of audio of one stream after the other, the last of which begins before `until`; one at least."""
    num_bytes = 0
    while True:
        async with client.stream("POST", "/generate", data={"text": TEXT}) as response:
            response.raise_for_status()
            async for read in response.aiter_raw():
                num_bytes += len(read)
        if time.perf_counter() >= until:
            return num_bytes / _BYTES_PER_SECOND


def _row(what: str, by_role: dict[str, float]) -> dict[str, Any]:
    rounded = {role: round(value, 1) for role, value in sorted(by_role.items(), key=lambda item: -item[1])}
    return {"what": what, "all": round(sum(by_role.values()), 1), "by_role": rounded}


def _table(row: dict[str, Any]) -> Table:
    table = Table(title=row["what"])
    for column in ("all", *row["by_role"]):
        table.add_column(column, justify="right")
    table.add_row(str(row["all"]), *map(str, row["by_role"].values()))
    return table


if __name__ == "__main__":
    main()
