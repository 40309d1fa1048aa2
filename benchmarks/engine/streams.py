"""How soon the engine answers with a cached voice, and how many streams it keeps at real time.

    python -m benchmarks.engine.streams --device cuda --slots 256,512,1024

In one process: `TokenService` on its thread and a task for every listener. A stream's context is a clip of 30 seconds
that the prefix cache holds; its messages leave as a server's do, one for each stream and, after the first few, four
frames. A number of streams holds where 99% of the steps come less than 80 ms after the one before.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from benchmarks.engine.load import TimedRunner, first_frame_ms, listen_all, service_of
from benchmarks.engine.precision import PRECISIONS
from benchmarks.engine.prompts import CLIP_FRAMES, Prompts, request_for
from benchmarks.engine.random_model import config_of, quantized_model
from benchmarks.engine.run import PRESETS, STEPS, Run, console, numbers, one_of, parser_for, refuse
from serve_app.engine.steps.choice import StepName, choose_step
from serve_app.errors import StartupError
from serve_app.messages import GenerationRequest
from serve_app.model.csm import Csm
from serve_app.settings import EngineSettings

_FRAME_MS = 80.0
_TEXT = "Hello, how are you?"
_TTFA_REQUESTS = 20
_TTFA_SLOTS = 32
_COLUMNS = {
    "what": "what",
    "streams": "streams beside it",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "holds": "holds",
}


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_for(__doc__)
    parser.add_argument("--preset", type=one_of(PRESETS), default=["csm-1b"], help="one")
    parser.add_argument("--dtype", choices=tuple(PRECISIONS), default="bf16")
    parser.add_argument("--slots", type=numbers, default=[256, 512, 1024], help="tried in order, until one fails")
    parser.add_argument("--steps", type=int, default=60, help="measured with all streams running")
    parser.add_argument("--step", choices=STEPS, default="auto", help="how a frame is computed")
    options = parser.parse_args(arguments)
    try:
        run = Run(options, f"streams-{options.preset[0]}", "benchmarks.engine.streams", arguments)
        model = quantized_model(options.preset[0], run.device, PRECISIONS[options.dtype])
        step = choose_step(options.step, model)
    except StartupError as error:
        refuse(parser, error)
        return
    rows: list[dict[str, Any]] = []
    run.note(preset=options.preset[0], dtype=options.dtype, step=step)
    for row in _measured(options, model, step):
        rows.append(row)
        run.note(rows=rows)
    held = [row["streams"] for row in rows if row.get("holds")]
    run.note(most_streams=max(held, default=0))
    run.show(rows, _COLUMNS)
    console.print(f"most streams with a p99 step below {_FRAME_MS:.0f} ms: {max(held, default=0)}")


def _measured(options: argparse.Namespace, model: Csm, step: StepName) -> Iterator[dict[str, Any]]:
    prompts = Prompts(config_of(options.preset[0]))
    yield from _first_frames(model, prompts, step, min(_TTFA_SLOTS, max(options.slots)))
    tried: dict[int, bool] = {}
    for slots in options.slots:
        row = _steps(model, prompts, step, slots, options.steps)
        yield row
        tried[slots] = row["holds"]
        if not row["holds"]:
            break
    held, failed = [n for n, holds in tried.items() if holds], [n for n, holds in tried.items() if not holds]
    if held and failed and failed[0] - held[-1] > 1:
        yield _steps(model, prompts, step, (held[-1] + failed[0]) // 2, options.steps)


def _first_frames(model: Csm, prompts: Prompts, step: StepName, slots: int) -> Iterator[dict[str, Any]]:
    """Alone, and beside streams in all slots but one."""
    voice = prompts.voice(CLIP_FRAMES, seed=1)
    asked = [request_for(_TEXT, voice, seed=n, num_frames=2) for n in range(_TTFA_REQUESTS)]
    num_positions = prompts.built(asked[0]).num_positions
    # Long enough to be there for all that is measured beside them.
    num_frames = 20 * _TTFA_REQUESTS
    room = num_positions + num_frames + 1
    mates = [request_for(_TEXT, voice, seed=n, num_frames=num_frames) for n in range(slots - 1)]

    async def beside(others: list[GenerationRequest]) -> list[float]:
        playing = [asyncio.create_task(listen_all(service, [other])) for other in others]
        await first_frame_ms(service, asked[0])
        times = [await first_frame_ms(service, request) for request in asked]
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)
        return times

    with service_of(model, prompts, step, slots, room) as (service, _):
        yield _figures("first frame", 0, asyncio.run(beside([])))
        if mates:
            yield _figures("first frame", len(mates), asyncio.run(beside(mates)))


def _steps(model: Csm, prompts: Prompts, step: StepName, slots: int, num_steps: int) -> dict[str, Any]:
    """Of as many streams as there are slots."""
    voice = prompts.voice(CLIP_FRAMES, seed=1)
    # They join a few a step, as many as the engine reads prompts of between two frames.
    text_tokens = len(prompts.tokenizer.encode(0, _TEXT)) + 1
    joining = slots * text_tokens // EngineSettings().prefill_chunk_tokens + 2
    num_frames = joining + num_steps
    requests = [request_for(_TEXT, voice, seed=n, num_frames=num_frames) for n in range(slots)]
    room = prompts.built(requests[0]).num_positions + num_frames + 1

    async def speak(runner: TimedRunner) -> None:
        # The first request reads the voice, the others find it.
        await first_frame_ms(service, request_for(_TEXT, voice))
        runner.launches.clear()
        await listen_all(service, requests)

    with service_of(model, prompts, step, slots, room) as (service, runner):
        asyncio.run(speak(runner))
        launches = runner.launches
    between = [
        (after - before) * 1000 for (before, fewer), (after, all_) in pairwise(launches) if fewer == all_ == slots
    ]
    row = _figures("step", slots, between)
    return {**row, "holds": row["p99_ms"] < _FRAME_MS}


def _figures(what: str, streams: int, times_ms: list[float]) -> dict[str, Any]:
    p99 = sorted(times_ms)[min(len(times_ms) - 1, int(len(times_ms) * 0.99))]
    return {
        "what": what,
        "streams": streams,
        "p50_ms": round(statistics.median(times_ms), 2),
        "p99_ms": round(p99, 2),
        "measured": len(times_ms),
    }


if __name__ == "__main__":
    main()
