"""Ours beside what people write first, transformers behind FastAPI: the same checkpoint, load and machine, in turn.

python -m benchmarks.peers.versus --model demo --concurrency 1,4 --requests 8
"""

import argparse
import asyncio
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.common.records import Run
from benchmarks.common.results_file import FOLDER
from benchmarks.load.command import build_parser, load_test, measured
from benchmarks.load.run import failure, save
from benchmarks.load.screen import shown
from serve_app.errors import StartupError
from serve_app.model.checkpoint import open_checkpoint

OURS, PEER = "ours", "transformers"
_START_SECONDS = 180.0
_STOP_SECONDS = 60.0
_FIGURES = (
    ("first audio ms, p50", ("ttfa_ms", "p50"), True),
    ("first audio ms, p95", ("ttfa_ms", "p95"), True),
    ("first chunk, ms of audio", ("first_chunk_ms_of_audio", "p50"), None),
    ("RTF, p50", ("rtf", "p50"), True),
    ("audio seconds a second", ("audio_seconds_per_second",), False),
    ("audio seconds in all", ("audio_seconds",), None),
    ("streams starved at most 100 ms", ("continuity", "c100"), None),
)
"""Name, place in a level's summary, and whether less is better; None where a ratio would say nothing."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one, and where it says that it is ready."""

    name: str
    arguments: Sequence[str]
    ready_path: str


def main() -> None:
    options = _parser().parse_args()
    console = Console(width=130)
    try:
        folder = open_checkpoint(options.model, None).folder
    except StartupError as error:
        sys.exit(f"benchmarks.peers.versus: {error}")
    servers = (
        Server(OURS, ("serve_app.launch", "--host", "127.0.0.1", "--model", options.model), "/ready"),
        Server(PEER, ("benchmarks.peers.transformers_server", "--model", str(folder)), "/health"),
    )
    stamp = f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
    runs = {server.name: _measure(server, options, f"{stamp}-versus-{server.name}", console) for server in servers}
    console.print(comparison(runs[OURS], runs[PEER], options.model))
    if invalid := [f"{name}: {'; '.join(run.invalid_because)}" for name, run in runs.items() if run.invalid_because]:
        sys.exit(f"benchmarks.peers.versus: invalid: {'; '.join(invalid)}")


def comparison(ours: Run, peer: Run, model: str) -> Table:
    """A row a figure and level; the last column is how many times better ours is."""
    table = Table(title=f"{model}: streams at once, the same load", caption="N/A: not known, or nothing to judge")
    for heading in ("streams", "", OURS, PEER, "times better"):
        table.add_column(heading, justify="left" if not heading else "right")
    theirs = {level["level"]: level for level in peer.levels}
    for level in ours.levels:
        for heading, place, less_is_better in _FIGURES:
            a, b = _at(level, place), _at(theirs.get(level["level"], {}), place)
            table.add_row(shown(level["level"]), heading, shown(a), shown(b), _times(a, b, less_is_better))
        table.add_section()
    return table


def _measure(server: Server, options: argparse.Namespace, name: str, console: Console) -> Run:
    with _running(server, console) as (url, pid):
        # vox-serve's form, which both answer.
        arguments = ["--target", "vox", "--url", url, "--server-pid", str(pid), "--name", name]
        arguments += ["--concurrency", options.concurrency, "--requests", str(options.requests)]
        arguments += ["--max-chars", str(options.max_chars), "--timeout", str(options.timeout)]
        command = f"python -m benchmarks.peers.versus {shlex.join(sys.argv[1:])}".strip()
        test = load_test(build_parser("load").parse_args(arguments), command)
        console.print(f"{server.name}:")
        run, records = asyncio.run(measured(test, console))
    path = save(run, records, options.out)
    console.print(f"saved as {path}", soft_wrap=True)
    if not any(level["ok"] for level in run.levels):
        sys.exit(f"benchmarks.peers.versus: {server.name}: {failure(run, records)}")
    return run


@contextmanager
def _running(server: Server, console: Console) -> Iterator[tuple[str, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", *server.arguments, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        with console.status(f"starting {server.name}"):
            _wait_until_ready(url + server.ready_path, process, server)
        yield url, process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], server: Server) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            sys.exit(f"benchmarks.peers.versus: {server.name} did not start: python -m {shlex.join(server.arguments)}")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit(f"benchmarks.peers.versus: {server.name} was not ready within {_START_SECONDS:.0f} s")


def _at(level: dict[str, Any], place: Sequence[str]) -> float | None:
    value: Any = level
    for name in place:
        value = value.get(name) if value else None
    return value


def _times(ours: float | None, theirs: float | None, less_is_better: bool | None) -> str:
    if less_is_better is None:
        return ""
    over, under = (theirs, ours) if less_is_better else (ours, theirs)
    return f"{over / under:.1f}" if over is not None and under else "N/A"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="demo, a folder, or a Hub repository")
    parser.add_argument("--concurrency", default="1,4")
    parser.add_argument("--requests", type=int, default=8, help="a level")
    parser.add_argument("--max-chars", type=int, default=30, help="untrained weights speak as long as they may")
    parser.add_argument("--timeout", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=FOLDER / "load")
    return parser


if __name__ == "__main__":
    main()
