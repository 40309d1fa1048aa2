"""From the command to the first word: how long a server needs until it is ready, and until its first caller hears it.

python -m benchmarks.load.cold_start --model demo --starts 3
"""

import argparse
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.server_process import free_port, own_ray, started

_SERVE = ("-c", "from serve_app.cli import main; main()", "serve")
_HEADER_BYTES = 44
_REQUESTS = 3
"""After each start: the first finds everything new."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    rows = [_start(options.model) for _ in range(options.starts)]
    command = f"python -m benchmarks.load.cold_start --model {options.model} --starts {options.starts}"
    saved = results_file.write("cold-start", "cpu", rows, command)
    Console(width=100).print(_table(rows), f"saved as {saved}")


def _start(model: str) -> dict[str, Any]:
    port = free_port()
    command = [*_SERVE, "--model", model, "--host", "127.0.0.1", "--port", str(port)]
    began = time.perf_counter()
    with started(command, own_ray(), f"http://127.0.0.1:{port}", ready_seconds=300) as server:
        ready = time.perf_counter() - began
        first_audio = [_first_audio_seconds(server.url) for _ in range(_REQUESTS)]
    return {"ready_seconds": round(ready, 1), "first_audio_ms": [round(1000 * seconds) for seconds in first_audio]}


def _first_audio_seconds(url: str) -> float:
    began, num_bytes = time.perf_counter(), 0
    with httpx.stream("POST", f"{url}/generate", data={"text": "Hello, how are you?"}, timeout=60) as response:
        response.raise_for_status()
        for read in response.iter_raw():
            num_bytes += len(read)
            if num_bytes > _HEADER_BYTES:
                break
    return time.perf_counter() - began


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"{results_file.processor()}: median ready after {median(r['ready_seconds'] for r in rows)} s")
    for title in ("ready after", *(f"first audio of request {number + 1}" for number in range(_REQUESTS))):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(f"{row['ready_seconds']} s", *(f"{ms} ms" for ms in row["first_audio_ms"]))
    return table


if __name__ == "__main__":
    main()
