"""Runs that nobody measured, for the report's tests."""

import random
from pathlib import Path
from typing import Any

from benchmarks.common.records import Chunk, Record, Run, write_records, write_run


def made_up_level(load: float, slowness: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A summary with every key; latency grows with load."""
    first = slowness * (60 + 12 * load)
    return {
        "level": load,
        "requests": 40,
        "ok": 39,
        "errors": {"refused": 1},
        "ttfa_ms": {"mean": first * 1.1, "p50": first, "p95": first * 1.6, "p99": first * 2.1},
        "first_chunk_ms_of_audio": {"p50": 80.0},
        "rtf": {name: slowness * share * (0.2 + load / 20) for name, share in QUANTILES.items()},
        "end_to_end_s": {"p50": 2.1, "p95": 3.0, "p99": 3.4},
        "lateness_ms": {"p50": -1800.0, "p95": -200.0, "p99": 12.0, "max": 64.0},
        "underrun_s": {"p50": 0.0, "p95": 0.02, "max": 0.064},
        "continuity": {"c50": 1 - load / 40, "c100": 1 - load / 80, "c200": 1.0},
        "streams_judged": 38,
        "single_chunk_streams": 1,
        "viability": {"chunks": 0.9996, "streams": 0.95},
        "inter_chunk_gap_ms": {"p50": 70.0, "p95": 110.0, "p99": 160.0},
        "audio_seconds_per_second": min(load * 4, 18) / slowness,
        "requests_per_second": min(load, 5) / slowness,
        "audio_seconds": 120.0,
    } | changes


QUANTILES = {"mean": 1.0, "p50": 0.95, "p95": 1.3, "p99": 1.5}


def without_figures(load: float) -> dict[str, Any]:
    """Nothing could be measured: some sections are null, some hold nulls."""
    level = made_up_level(load)
    empty = {
        name: dict.fromkeys(value) if isinstance(value, dict) else None
        for name, value in level.items()
        if name not in ("level", "requests", "ok", "errors")
    }
    return level | empty | {"ok": 0, "errors": {"connect": 40}, "rtf": None, "viability": None}


def made_up_records(loads: tuple[float, ...], slowness: float = 1.0) -> list[Record]:
    """Streams of 160 ms chunks whose gaps grow with load; the first of each level is a warm-up, far too late."""
    numbers = random.Random(0)
    found = []
    for load in loads:
        for index in range(30):
            at, chunks = 0.1 + load / 100, []
            for _ in range(12):
                chunks.append(Chunk(at + (60 if index == 0 else 0), 0.16))
                at += slowness * (0.03 + load / 100) * numbers.lognormvariate(0, 0.7)
            found.append(
                Record(
                    request_id=f"{load}-{index}",
                    scenario="sentence",
                    level=load,
                    warm_up=index == 0,
                    due_at=0.0,
                    sent_at=0.0,
                    status=200,
                    error=None,
                    text_chars=40,
                    chunks=tuple(chunks),
                    ended_after=at,
                )
            )
    return found


LOADS = (1, 2, 4, 8, 16)


def save(folder: Path, name: str, loads: tuple[float, ...] = LOADS, slowness: float = 1.0, **changes: Any) -> Path:
    """Write a run and its records as the load tool does. `changes` replace fields of the Run."""
    values: dict[str, Any] = {
        "name": name,
        "target": "ours",
        "url": "http://127.0.0.1:8000",
        "command": "csm-serve bench --concurrency 1,2,4,8,16",
        "loop": "closed",
        "started_at": "2026-01-02T03:04:05+00:00",
        "environment": {"commit": "abc1234", "uncommitted_changes": True, "device": "cpu", "cores": 2},
        "client": {"cpu_share": 0.21, "event_loop_lag_ms_p99": None},
        "memory_mb": tuple((float(second), 900 + 3.0 * second) for second in range(60)),
        "levels": tuple(made_up_level(load, slowness) for load in loads),
    }
    write_run(folder / f"{name}.json", Run(**values | changes))
    write_records(folder / f"{name}.jsonl", made_up_records(loads, slowness))
    return folder / f"{name}.json"
