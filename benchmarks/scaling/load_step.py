"""An autoscaled graph under a load step: when the new replicas come, and what listeners notice until then.

    python -m benchmarks.scaling.load_step

A stand-in takes the model's place. One replica carries the first load; the step asks for three.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.common import results_file
from benchmarks.scaling.served import served

SLOTS, STEP_MS, MOST_REPLICAS = 8, 40.0, 3
_LOW, _HIGH = 3, 20
"""Listeners before and after the step, each beginning anew when it has ended."""
_CALM_SECONDS, _STEP_SECONDS = 10.0, 40.0
_UTTERANCE_SECONDS = 4.0
_TEXT = "One story follows another, and each of them is told to the end."
_SCALING = {"min_replicas": 1, "max_replicas": MOST_REPLICAS, "metrics_interval_s": 0.5, "look_back_period_s": 2}
_SCALING |= {"upscale_delay_s": 1, "downscale_delay_s": 600}
_POLICY = {"policy_function": "serve_app.deployments.scaling.autoscaling:SlotPolicy", "policy_kwargs": {}}
Heard = tuple[float, float | None]
"""When a request was sent, in seconds since the step, and its first audio's seconds; None where it was refused."""


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    args = {
        "model": "stand-in",
        "stand_in": {"step_ms_by_batch": {"1": STEP_MS}},
        "engine": {"max_batch_size": SLOTS, "max_waiting": 2 * SLOTS, "max_step_ms": 0},
        "codec": {"max_streams": MOST_REPLICAS * SLOTS},
    }
    actor = {"ray_actor_options": {"num_cpus": 0.05}, "autoscaling_config": _SCALING | {"policy": _POLICY}}
    with served(args, {"TokenGenerator": actor}) as server:
        row = asyncio.run(_measure(server.url))
    saved = results_file.write("load-step", "cpu", [row], "python -m benchmarks.scaling.load_step")
    Console(width=110).print(_table(row), f"saved as {saved}")


async def _measure(url: str) -> dict[str, Any]:
    heard: list[Heard] = []
    replicas: list[tuple[float, int]] = []
    step_at = time.monotonic() + _CALM_SECONDS
    unlimited = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=unlimited) as client, asyncio.TaskGroup() as tasks:
        for _ in range(_LOW):
            tasks.create_task(_listen(client, 0.0, step_at, heard))
        for _ in range(_HIGH - _LOW):
            tasks.create_task(_listen(client, _CALM_SECONDS, step_at, heard))
        tasks.create_task(_watch(client, step_at, replicas))
    return {
        "listeners": [_LOW, _HIGH],
        "slots": SLOTS,
        "replicas_after_seconds": {str(n): first_time(replicas, n) for n in range(2, MOST_REPLICAS + 1)},
        "before": figures([one for one in heard if one[0] < 0]),
        "until_all_replicas": figures([one for one in heard if 0 <= one[0] < last_change(replicas)]),
        "after": figures([one for one in heard if one[0] >= last_change(replicas)]),
    }


async def _listen(client: httpx.AsyncClient, wait: float, step_at: float, heard: list[Heard]) -> None:
    """One utterance after the other, until the step has lasted long enough."""
    await asyncio.sleep(wait)
    while time.monotonic() < step_at + _STEP_SECONDS:
        sent, first = time.monotonic(), None
        body = {"text": _TEXT, "streaming": True, "max_audio_seconds": _UTTERANCE_SECONDS}
        async with client.stream("POST", "/generate", json=body) as response:
            num_bytes = 0
            async for read in response.aiter_raw():
                num_bytes += len(read)
                if first is None and response.is_success and num_bytes > 44:
                    first = time.monotonic() - sent
        heard.append((sent - step_at, first))
        if first is None:
            await asyncio.sleep(float(response.headers.get("retry-after", 1)))


async def _watch(client: httpx.AsyncClient, step_at: float, replicas: list[tuple[float, int]]) -> None:
    """How many generators publish their slots, by the seconds since the step."""
    while time.monotonic() < step_at + _STEP_SECONDS:
        text = (await client.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("ray_csm_engine_slots{")]
        replicas.append((time.monotonic() - step_at, len(lines)))
        await asyncio.sleep(0.25)


def first_time(replicas: Sequence[tuple[float, int]], number: int) -> float | None:
    return next((round(at, 1) for at, running in replicas if running >= number), None)


def last_change(replicas: Sequence[tuple[float, int]]) -> float:
    most = max(number for _, number in replicas)
    return next(at for at, number in replicas if number == most)


def figures(heard: Sequence[Heard]) -> dict[str, Any]:
    seconds = sorted(first for _, first in heard if first is not None)
    if not seconds:
        return {"requests": len(heard), "refused": len(heard)}
    p95 = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
    return {
        "requests": len(heard),
        "refused": len(heard) - len(seconds),
        "ttfa_p50_ms": round(1000 * median(seconds)),
        "ttfa_p95_ms": round(1000 * p95),
    }


def _table(row: dict[str, Any]) -> Table:
    came = ", ".join(f"{number} after {seconds} s" for number, seconds in row["replicas_after_seconds"].items())
    table = Table(title=f"from {_LOW} to {_HIGH} listeners, {SLOTS} slots a replica; replicas: {came}")
    for title in ("", "requests", "refused", "TTFA p50, ms", "TTFA p95, ms"):
        table.add_column(title, justify="right")
    for when in ("before", "until_all_replicas", "after"):
        values = row[when]
        cells = [str(values.get(name, "")) for name in ("requests", "refused", "ttfa_p50_ms", "ttfa_p95_ms")]
        table.add_row(when.replace("_", " "), *cells)
    return table


if __name__ == "__main__":
    main()
