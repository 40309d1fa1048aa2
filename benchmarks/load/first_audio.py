"""Time from a request to its first audio byte over HTTP, and the real-time factor, on a server started for it.

python -m benchmarks.load.first_audio --model demo --streams 1,2,4,8
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file

TEXT = "The quick brown fox jumps over the lazy dog, and says so."
HEADER_BYTES = 44
BYTES_PER_SECOND = 48_000
_console = Console(width=110)


@dataclass(frozen=True, slots=True)
class Heard:
    """One stream as its client saw it. The WAV header is not audio."""

    first_audio_ms: float
    real_time_factor: float
    """Time to receive it, over its length."""
    underrun_seconds: float
    """How long a player that started with the first byte would have stood still."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--streams", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with _server(options.model) as url:
        rows = [asyncio.run(_measure(url, int(n), options.rounds)) for n in options.streams.split(",")]
    _console.print(_table(rows, f"{options.model}, {results_file.processor()}"))
    command = f"python -m benchmarks.load.first_audio --model {options.model} --streams {options.streams}"
    _console.print(f"saved as {results_file.write('first-audio', 'cpu', rows, command)}")


@contextmanager
def _server(model: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "serve_app.launch", "--model", model, "--host", "127.0.0.1", "--port", str(port)]
    with _console.status("starting the server"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process)
    try:
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            sys.exit("the server did not start; run csm-serve serve to see why")
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit("the server was not ready within five minutes")


async def _measure(url: str, num_streams: int, num_rounds: int) -> dict[str, Any]:
    heard: list[Heard] = []
    async with httpx.AsyncClient(timeout=120) as client:
        await _listen(client, url)
        with _console.status(f"{num_streams} at once"):
            for _ in range(num_rounds):
                heard += await asyncio.gather(*(_listen(client, url) for _ in range(num_streams)))
    return {
        "streams": num_streams,
        "first_audio_ms_median": round(statistics.median(h.first_audio_ms for h in heard), 1),
        "first_audio_ms_worst": round(max(h.first_audio_ms for h in heard), 1),
        "real_time_factor_median": round(statistics.median(h.real_time_factor for h in heard), 3),
        "underrun_seconds_worst": round(max(h.underrun_seconds for h in heard), 3),
    }


async def _listen(client: httpx.AsyncClient, url: str) -> Heard:
    started = time.perf_counter()
    num_bytes, first_at, late = 0, 0.0, 0.0
    async with client.stream("POST", f"{url}/generate", data={"text": TEXT}) as response:
        response.raise_for_status()
        async for read in response.aiter_raw():
            now = time.perf_counter()
            if num_bytes < HEADER_BYTES < num_bytes + len(read) or (num_bytes >= HEADER_BYTES and not first_at):
                first_at = now
            if first_at:
                late = max(late, now - first_at - (num_bytes - HEADER_BYTES) / BYTES_PER_SECOND)
            num_bytes += len(read)
    seconds = (num_bytes - HEADER_BYTES) / BYTES_PER_SECOND
    return Heard((first_at - started) * 1000, (time.perf_counter() - started) / seconds, late)


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    for column in ("streams", "first audio ms", "worst", "real-time factor", "underrun s, worst"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    main()
