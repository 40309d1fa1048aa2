"""What routing by voice gains: the graph with several token generators behind Serve's own router, then behind ours.

    python -m benchmarks.routing --voices 24 --replicas 3

The same requests in the same order, on this machine's CPU, from the first request of each voice on. Each replica's
prefix cache is given room for about half of all voices. Some five minutes on two cores, half of them starting.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.server_process import CannotStart, Server
from benchmarks.load.workloads import Clip
from benchmarks.routing.servers import ROUTERS, Graph, Router, cache_mb, running, voice_positions
from benchmarks.routing.traffic import (
    MANY_VOICES,
    NO_VOICE,
    ONE_VOICE,
    Scenario,
    Traffic,
    for_the_encoder,
    open_client,
    requests,
    voices,
)
from serve_app.errors import StartupError
from serve_app.model.checkpoint import open_checkpoint

_FEW_AT_ONCE = 6
_CROWD = 0.75
"""Of all replicas' slots: the listeners of the popular voice."""
_FIGURES = (
    ("prompt positions restored", "restored_share"),
    ("requests that found their voice", "voices_found_share"),
    ("positions read a request", "positions_read_per_request"),
    ("requests by replica", "requests_per_replica"),
    ("busiest replica's share, at most", "busiest_share"),
    ("first audio, p50 ms", "first_audio_p50_ms"),
    ("first audio, p95 ms", "first_audio_p95_ms"),
    ("refused", "refused"),
    ("other errors", "num_errors"),
)
_console = Console(width=120, highlight=False)


def main() -> None:
    options = _parser().parse_args()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="csm-routing-") as folder:
            rows = _measured(options, Path(folder))
    except (StartupError, CannotStart) as error:
        sys.exit(f"benchmarks.routing: {error}")
    _console.print(table(rows))
    _console.print(f"took {time.monotonic() - began:.0f} s")
    _console.print(f"saved as {results_file.write('routing', 'cpu', rows, _command(options))}")


def _measured(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    checkpoint = open_checkpoint(options.model, None)
    clips = voices(options.voices, options.clip_seconds, options.seed)
    positions = voice_positions(checkpoint, clips[0])
    room = cache_mb(checkpoint, positions * options.voices // 2)
    _console.print(f"a voice is {positions} positions; each replica's prefix cache is {room} MB", style="dim")
    graph = Graph(options.model, folder, options.replicas, options.decoders, options.slots, room)
    plan = scenarios(options, clips, positions)
    about = {"voice_positions": positions, "prefix_cache_mb": room}
    rows: list[dict[str, Any]] = []
    for router in ROUTERS:
        rows += [{"router": router.name, **about, **row} for row in _rows(graph, router, clips, plan)]
    return rows


def scenarios(options: argparse.Namespace, clips: Sequence[Clip], positions: int) -> list[Scenario]:
    """The popular voice is one of the many, read or not as the many left it."""
    crowd = max(1, int(options.replicas * options.slots * _CROWD))

    def asked(clips: Sequence[Clip | None], each: int, seed: int) -> tuple[Any, ...]:
        return requests(clips, each, options.audio_seconds, options.seed + seed)

    return [
        Scenario(MANY_VOICES, asked(clips, options.per_voice, 1), _FEW_AT_ONCE, positions),
        Scenario(ONE_VOICE, asked(clips[:1], options.rounds * crowd, 2), crowd, positions),
        Scenario(NO_VOICE, asked([None], options.voices * options.per_voice // 2, 3), _FEW_AT_ONCE, 0),
    ]


def _rows(graph: Graph, router: Router, clips: Sequence[Clip], plan: Sequence[Scenario]) -> list[dict[str, Any]]:
    began = time.monotonic()

    def say(doing: str) -> None:
        _console.print(f"  {time.monotonic() - began:4.0f} s  {doing}", style="dim")

    async def play(server: Server) -> list[dict[str, Any]]:
        rows = []
        async with open_client() as http:
            traffic = Traffic(http, server.url)
            await traffic.until_all_run(graph.replicas, graph.decoders)
            say("ready")
            await traffic.play(for_the_encoder(clips), _FEW_AT_ONCE)
            for scenario in plan:
                say(scenario.name)
                rows.append(await traffic.measure(scenario))
            say("done")
        return rows

    _console.print(f"router: {router.name}", style="bold")
    with running(graph, router) as server:
        return asyncio.run(play(server))


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a scenario and figure, a column a router."""
    names = list(dict.fromkeys(row["router"] for row in rows))
    found = Table(title="token generators: the same requests behind each router")
    for column in ("scenario", "", *names):
        found.add_column(column, justify="right" if column in names else "left")
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        by_router = {row["router"]: row for row in rows if row["scenario"] == scenario}
        first = by_router[names[0]]
        about = [scenario, f"{first['requests']} requests", f"{first['at_once']} at once"]
        shown = [(label, name) for label, name in _FIGURES if any(row[name] is not None for row in by_router.values())]
        for (label, name), heading in zip(shown, chain(about, repeat("")), strict=False):
            found.add_row(heading, label, *(_cell(by_router[router][name]) for router in names))
        found.add_section()
    return found


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--replicas", type=int, default=3, help="token generators")
    parser.add_argument("--decoders", type=int, default=2, help="audio decoders, each of which routes for itself")
    parser.add_argument("--slots", type=int, default=8, help="of each token generator")
    parser.add_argument("--voices", type=int, default=24)
    parser.add_argument("--per-voice", type=int, default=6, help="requests of each of the many voices")
    parser.add_argument("--rounds", type=int, default=4, help="requests of each listener of the popular voice")
    parser.add_argument("--clip-seconds", type=float, default=10.0)
    parser.add_argument("--audio-seconds", type=float, default=0.48, help="of each answer")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _command(options: argparse.Namespace) -> str:
    given = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in vars(options).items())
    return f"python -m benchmarks.routing {given}"


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
