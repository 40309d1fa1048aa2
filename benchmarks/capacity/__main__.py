"""The capacity model beside a served graph: the same requests, at the same times, simulated and measured.

    python -m benchmarks.capacity

A stand-in takes the place of the model and sleeps as long as a step would: what is compared is who waits for what. The
path beside the engine is measured by one listener alone, and given to the simulation.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.common.records import Record, read_records
from benchmarks.common.server_process import free_port, own_ray, started
from benchmarks.load.timeline import audio_seconds
from serve_app.capacity.costs import at
from serve_app.capacity.simulation import FRAME_SECONDS, Engine, Outcome, Request, Simulation

STEP_MS = {1: 30.0, 8: 60.0}
SLOTS, FRAMES, MAX_WAITING, MAX_WAIT_SECONDS = 8, 50, 16, 6.0
_ENVIRONMENT = {
    "CSM_STAND_IN__STEP_MS_BY_BATCH": json.dumps(STEP_MS),
    "CSM_STAND_IN__FRAMES": str(FRAMES),
    "CSM_ENGINE__MAX_STEP_MS": "0",
    "CSM_ENGINE__MAX_BATCH_SIZE": str(SLOTS),
    "CSM_ENGINE__MAX_WAITING": str(MAX_WAITING),
    "CSM_ENGINE__MAX_WAIT_SECONDS": str(MAX_WAIT_SECONDS),
    "CSM_CODEC__MAX_STREAMS": str(2 * SLOTS),
}
_SERVE = ("-c", "from serve_app.cli import main; main()", "serve", "--model", "stand-in", "--host", "127.0.0.1")
_ALONE = 6
"""Requests of a listener alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1,2,2.5,4", help="requests a second; 8 slots carry 2.67")
    parser.add_argument("--seconds", type=float, default=25.0, help="at each rate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, loads = _measured(Path(folder), options.rates, options.seconds)
    path_seconds = median(_first_audio(alone)) - at(STEP_MS, 1) / 1000
    rows = [row for rate, records in sorted(loads.items()) for row in _compared(rate, records, path_seconds)]
    command = f"python -m benchmarks.capacity --rates {options.rates} --seconds {options.seconds:g}"
    saved = results_file.write("capacity", "cpu", rows, command)
    Console(width=110).print(_table(rows, path_seconds), f"saved as {saved}")


def _measured(folder: Path, rates: str, seconds: float) -> tuple[list[Record], dict[float, list[Record]]]:
    """Requests of one listener alone, and those of each rate."""
    port = free_port()
    environment = own_ray() | _ENVIRONMENT | {"CSM_DATA_DIR": str(folder / "data")}
    with started([*_SERVE, "--port", str(port)], environment, f"http://127.0.0.1:{port}") as server:
        alone = _load(folder, server.url, "alone", "--concurrency", "1", "--requests", str(_ALONE))
        loads: dict[float, list[Record]] = defaultdict(list)
        for rate in rates.split(","):  # each alone, so that no queue is left from the one before
            for record in _load(folder, server.url, f"at-{rate}", "--rates", rate, "--duration", str(seconds)):
                loads[record.level].append(record)
    return alone, loads


def _load(folder: Path, url: str, name: str, *options: str) -> list[Record]:
    kept = ["--out", str(folder), "--name", name, "--url", url, "--max-audio-seconds", str(FRAMES * FRAME_SECONDS)]
    command = [sys.executable, "-m", "benchmarks.load", *kept, *options]
    # Its status is 1 where requests were refused, which is meant here.
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    return [record for record in read_records(folder / f"{name}.jsonl") if not record.warm_up]


def _compared(rate: float, records: Sequence[Record], path_seconds: float) -> Iterable[dict[str, Any]]:
    began = min(record.sent_at for record in records)
    requests = sorted((Request(record.sent_at - began, FRAMES) for record in records), key=lambda each: each.at)
    engine = Engine(SLOTS, partial(at, STEP_MS), max_waiting=MAX_WAITING, max_wait_seconds=MAX_WAIT_SECONDS)
    end = max(record.sent_at - began + record.ended_after for record in records)
    outcome = Simulation(engine, 1).run(requests, end + MAX_WAIT_SECONDS + FRAMES * 0.1)
    heard = _first_audio(records)
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        predicted = outcome.percentile(share) + path_seconds
        yield _row(rate, f"first audio {name}, ms", 1000 * _at_share(heard, share), 1000 * predicted)
    yield _row(rate, "refused, %", 100 * (1 - len(heard) / len(records)), 100 * outcome.refused / len(records))
    spoken = sum(audio_seconds(record) for record in records) / end
    yield _row(rate, "audio seconds a second", spoken, _spoken(outcome, end))
    # Little's law: streams in the engine are requests a second times the time that each is there.
    held = sum(record.ended_after for record in records if record.chunks) / end
    yield _row(rate, "requests in the server", held, _held(outcome, end))


def _spoken(outcome: Outcome, end: float) -> float:
    return len(outcome.first_frame_seconds) * FRAMES * FRAME_SECONDS / end


def _held(outcome: Outcome, end: float) -> float:
    return (outcome.row_seconds + sum(outcome.first_frame_seconds)) / end


def _row(rate: float, figure: str, measured: float, simulated: float) -> dict[str, Any]:
    apart = abs(simulated / measured - 1) if measured else None
    return {"rate": rate, "figure": figure, "measured": measured, "simulated": simulated, "apart": apart}


def _first_audio(records: Sequence[Record]) -> list[float]:
    return sorted(record.chunks[0].at for record in records if record.chunks)


def _at_share(values: Sequence[float], share: float) -> float:
    outcome = Outcome(first_frame_seconds=list(values))
    return outcome.percentile(share)


def _table(rows: Sequence[dict[str, Any]], path_seconds: float) -> Table:
    table = Table(title=f"{results_file.processor()}; the path alone: {1000 * path_seconds:.0f} ms")
    for title in ("requests/s", "figure", "measured", "simulated", "apart"):
        table.add_column(title, justify="left" if title == "figure" else "right")
    for row in rows:
        apart = "" if row["apart"] is None else f"{row['apart']:.0%}"
        table.add_row(f"{row['rate']:g}", row["figure"], f"{row['measured']:.3g}", f"{row['simulated']:.3g}", apart)
    return table


if __name__ == "__main__":
    main()
