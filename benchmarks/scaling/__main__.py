"""Audio seconds a second from 1, 2 and 4 generators, each with a decoder, under more listeners than they have slots.

    python -m benchmarks.scaling

A stand-in takes the model's place and sleeps as long as a step would, so that the machine's cores stay free for the
graph: what is measured is whether requests reach the replica that has room.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.records import Record, read_records
from benchmarks.load.timeline import summarize
from benchmarks.scaling.served import served

SLOTS, STEP_MS = 8, 40.0
_LISTENERS_A_SLOT = 1.5
"""So that a request always waits, and nobody is refused."""
_UTTERANCE_SECONDS = 4.0
_SETTLE_SECONDS = 3.0
"""Until every slot has been taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each")
    options = parser.parse_args()
    rows = [_row(int(number), options.seconds) for number in options.replicas.split(",")]
    for row in rows:
        row["share_of_linear"] = (
            row["audio_seconds_a_second"] / rows[0]["audio_seconds_a_second"] / (row["replicas"] / rows[0]["replicas"])
        )
    command = f"python -m benchmarks.scaling --replicas {options.replicas} --seconds {options.seconds:g}"
    saved = results_file.write("scaling", "cpu", rows, command)
    Console(width=110).print(_table(rows), f"saved as {saved}")


def _row(replicas: int, seconds: float) -> dict[str, Any]:
    args = {
        "model": "stand-in",
        "stand_in": {"step_ms_by_batch": {"1": STEP_MS}},
        "engine": {"max_batch_size": SLOTS, "max_waiting": 4 * SLOTS, "max_step_ms": 0, "max_lead_seconds": 60},
        "codec": {"max_streams": 2 * SLOTS},
    }
    actor = {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.05}}
    with served(args, {"TokenGenerator": actor, "AudioDecoder": actor}) as server:
        records = _listen(server.url, int(replicas * SLOTS * _LISTENERS_A_SLOT), seconds)
    figures = summarize(records)
    return {
        "replicas": replicas,
        "audio_seconds_a_second": heard_seconds(records, _SETTLE_SECONDS, seconds) / (seconds - _SETTLE_SECONDS),
        "of_all_slots": replicas * SLOTS * 80.0 / STEP_MS,
        "errors": figures["errors"],
        "c100": figures["continuity"]["c100"],
        "ttfa_p50_ms": figures["ttfa_ms"]["p50"],
    }


def _listen(url: str, listeners: int, seconds: float) -> list[Record]:
    with tempfile.TemporaryDirectory() as folder:
        kept = ["--out", folder, "--name", "scaling", "--url", url, "--max-audio-seconds", str(_UTTERANCE_SECONDS)]
        load = ["--concurrency", str(listeners), "--duration", str(seconds), "--warm-up", "2"]
        command = [sys.executable, "-m", "benchmarks.load", *kept, *load]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        return [record for record in read_records(Path(folder) / "scaling.jsonl") if not record.warm_up]


def heard_seconds(records: Sequence[Record], begin: float, end: float) -> float:
    """Audio seconds that came between `begin` and `end`, in seconds since the first of these requests was sent."""
    first = min(record.sent_at for record in records)
    chunks = ((record.sent_at - first + chunk.at, chunk) for record in records for chunk in record.chunks)
    return sum(chunk.audio_seconds for at, chunk in chunks if begin <= at < end)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"{results_file.processor()}: {SLOTS} slots a replica, {STEP_MS:g} ms a step")
    for title in ("replicas", "audio s/s", "with all slots busy", "of linear", "without a 100 ms gap", "TTFA p50"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            str(row["replicas"]),
            f"{row['audio_seconds_a_second']:.1f}",
            f"{row['of_all_slots']:.0f}",
            f"{row['share_of_linear']:.0%}",
            "?" if row["c100"] is None else f"{row['c100']:.1%}",
            f"{row['ttfa_p50_ms']:.0f} ms",
        )
    return table


if __name__ == "__main__":
    main()
