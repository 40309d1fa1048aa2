"""What the graph adds to every chunk, against a bare FastAPI process: CPU, latency, and how many streams go well.

python -m benchmarks.datapath                    all three servers, under five minutes on two cores
python -m benchmarks.datapath --only default     one of: bare, default, haproxy
python -m benchmarks.datapath --lead             only CPU, where listeners have seconds in hand, in three minutes
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.server_process import CannotStart
from benchmarks.datapath.figures import UNDERRUN_SECONDS, added
from benchmarks.datapath.measure import Plan, measure
from benchmarks.datapath.servers import PROFILES, Profile, running

_ROLES = ("ingress", "proxy", "decoder", "generator", "encoder", "controller", "client")
_BARE = "bare"
_console = Console(width=130, highlight=False)


def main() -> None:
    options = _parser().parse_args()
    plan = Plan(streams=options.streams, largest_level=options.largest, search_seconds=options.search_seconds)
    if options.lead:
        plan = replace(plan, lead_seconds=6.0, window_seconds=12.0)
    chosen = [profile for profile in PROFILES if profile.name in (options.only or [p.name for p in PROFILES])]
    began = time.monotonic()
    rows = [_row(profile, plan) for profile in chosen]
    if not options.lead:
        _compare_with_bare(rows)
    tables = [_cost_table(rows)] if options.lead else [_cost_table(rows), _latency_table(rows), _limit_table(rows)]
    for table in tables:
        _console.print(table)
    for row in rows:
        for reason in [row["skipped"]] if "skipped" in row else row["invalid_because"]:
            _console.print(f"{row['profile']} is not valid: {reason}", style="red")
    _console.print(f"took {time.monotonic() - began:.0f} s")
    _console.print(f"saved as {results_file.write('datapath', 'cpu', rows, _command(options))}")


def _row(profile: Profile, plan: Plan) -> dict[str, Any]:
    row: dict[str, Any] = {"profile": profile.name, "about": profile.about, "plan": asdict(plan)}
    began = time.monotonic()

    def say(doing: str) -> None:
        status.update(f"{profile.name}: {doing}")
        _console.print(f"  {time.monotonic() - began:4.0f} s  {doing}", style="dim")

    _console.print(f"{profile.name}: {profile.about}", style="bold")
    with _console.status(f"{profile.name}: starting") as status:
        try:
            with running(profile, has_lead=plan.lead_seconds > 0) as server:
                say("ready")
                return row | asyncio.run(measure(server, plan, say))
        except CannotStart as error:
            say(str(error))
            return row | {"skipped": str(error)}


def _compare_with_bare(rows: Sequence[dict[str, Any]]) -> None:
    bare = next((row for row in rows if row["profile"] == _BARE and "skipped" not in row), None)
    for row in rows:
        if bare is not None and "skipped" not in row:
            row["added_to_bare"] = {
                when: {name: added(ms, bare[when][name]) for name, ms in row[when].items()}
                for when in ("alone", "loaded")
            }


def _measured(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if "skipped" not in row]


def _cost_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="CPU-ms a chunk (and a stream-second), own idling taken off")
    table.add_column("server")
    for role in (*_ROLES, "others", "all but client"):
        table.add_column(role, justify="right")
    for row in _measured(rows):
        cpu = row["cpu"]
        cells = [_cost(cpu[role]) if role in cpu else "" for role in _ROLES]
        own = [cost for role, cost in cpu.items() if role != "client"]
        others = [cost for role, cost in cpu.items() if role not in _ROLES]
        sums = [_cost(_total(costs)) for costs in (others, own)]
        table.add_row(f"{row['profile']}, {row['streams']} streams", *cells, *sums)
    return table


def _total(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(cost[name] for cost in costs) for name in ("ms_per_chunk", "ms_per_stream_second")}


def _cost(cost: Mapping[str, float]) -> str:
    return f"{cost['ms_per_chunk']:.2f} ({cost['ms_per_stream_second']:.2f})"


def _latency_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="first byte / first audio, ms (added to bare)")
    for column in ("server", "alone p50", "alone p95", "loaded p50", "loaded p95"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for row in _measured(rows):
        cells = [_latency(row, when, rank) for when in ("alone", "loaded") for rank in ("p50", "p95")]
        table.add_row(row["profile"], *cells)
    return table


def _latency(row: dict[str, Any], when: str, rank: str) -> str:
    names = (f"byte_{rank}_ms", f"audio_{rank}_ms")
    more = row.get("added_to_bare", {}).get(when)
    plus = f" ({' / '.join(_signed(more[name]) for name in names)})" if more and row["profile"] != _BARE else ""
    return " / ".join(str(row[when][name]) for name in names) + plus


def _signed(value: float | None) -> str:
    return "?" if value is None else f"{value:+.1f}"


def _limit_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"streams at once before one starves for more than {UNDERRUN_SECONDS * 1000:.0f} ms")
    for column in ("server", "went well", "failed", "client's core", "others' cores"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for row in _measured(rows):
        limit = row["limit"]
        failing = limit["fewest_failing"]
        most = f"{limit['most']}" + ("" if failing else " or more")
        share, others = f"{row['client']['cpu_share']:.2f}", f"{row['others_cores']:.2f}"
        table.add_row(row["profile"], most, str(failing or "none tried"), share, others)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Plan()
    parser.add_argument("--only", action="append", choices=[profile.name for profile in PROFILES])
    parser.add_argument("--streams", type=int, default=usual.streams, help="at once while CPU is measured")
    parser.add_argument("--largest", type=int, default=usual.largest_level, help="streams at once that are tried")
    parser.add_argument("--search-seconds", type=float, default=usual.search_seconds, help="a server, for the limit")
    parser.add_argument("--lead", action="store_true", help="count CPU after listeners have seconds in hand")
    return parser


def _command(options: argparse.Namespace) -> str:
    given = " ".join(f"--only {name}" for name in options.only or [])
    lead = "--lead " if options.lead else ""
    return (
        f"python -m benchmarks.datapath --streams {options.streams} --largest {options.largest} {lead}{given}".strip()
    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
