"""Time from a request to its first frame, by length of its prompt: read, and restored from the prefix cache.

    python -m benchmarks.engine.prefix_hit --preset small,csm-1b --positions 420

A prompt is a voice's clip and a short text; restored, only the text is left to read. In the engine's process, one
sequence at a time, in the engine's own chunks. 420 positions are a clip of 30 seconds.
"""

import statistics
import sys
import time
from typing import Any

from benchmarks.engine.precision import PRECISIONS
from benchmarks.engine.prompts import Prompts, request_for
from benchmarks.engine.random_model import config_of, quantized_model
from benchmarks.engine.run import PRESETS, STEPS, Run, numbers, one_of, parser_for, refuse
from serve_app.engine.engine import Engine
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prefix_cache import PrefixCache
from serve_app.engine.sequence import Sequence
from serve_app.engine.steps.choice import StepName, choose_step, step_maker
from serve_app.errors import StartupError
from serve_app.messages import ContextSegment
from serve_app.model.csm import Csm
from serve_app.settings import EngineSettings

ROUNDS = 3
_TEXT = "Hello, how are you?"
_CACHE_BYTES = 1 << 30
_COLUMNS = {
    "preset": "preset",
    "dtype": "dtype",
    "step": "step",
    "positions": "positions",
    "read_ms": "read, ms",
    "restored_ms": "restored, ms",
    "times_as_fast": "times",
}


class FirstFrame:
    """An engine of one row with a prefix cache."""

    def __init__(self, model: Csm, prompts: Prompts, step: StepName) -> None:
        max_positions = model.shape.backbone.max_positions
        prefixes = PrefixCache(model.device, _CACHE_BYTES, 0)
        runner = ModelRunner(model, 1, max_positions, prefixes, step_maker(step))
        self._engine = Engine(runner, EngineSettings(max_batch_size=1, max_step_ms=0), "benchmark")
        self._prompts = prompts

    def milliseconds(self, voice: ContextSegment) -> float:
        request = request_for(_TEXT, voice)
        prompt = self._prompts.built(request)
        began = time.perf_counter()
        self._engine.add(Sequence(request, prompt, lambda message: None, time.monotonic()))
        while self._engine.step():
            pass
        return (time.perf_counter() - began) * 1000


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_for(__doc__)
    parser.add_argument("--preset", type=one_of(PRESETS), default=["small"])
    parser.add_argument("--positions", type=numbers, default=[420])
    parser.add_argument("--step", choices=STEPS, default="auto", help="how a frame is computed")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    try:
        run = Run(options, "prefix-hit-" + "-".join(options.preset), "benchmarks.engine.prefix_hit", arguments)
        for preset in options.preset:
            dtype = "bf16" if run.device.type == "cuda" or preset == "csm-1b" else "fp32"
            model = quantized_model(preset, run.device, PRECISIONS[dtype])
            step = choose_step(options.step, model)
            measured = _measure(Prompts(config_of(preset)), model, step, options.positions)
            rows += [{"preset": preset, "dtype": dtype, "step": step, **row} for row in measured]
            run.note(rows=rows)
    except StartupError as error:
        refuse(parser, error)
        return
    run.show(rows, _COLUMNS)


def _measure(prompts: Prompts, model: Csm, step: StepName, positions: list[int]) -> list[dict[str, Any]]:
    engine = FirstFrame(model, prompts, step)
    rows = []
    for length in positions:
        voices = [prompts.voice_of(length, _TEXT, seed=length + number) for number in range(1 + ROUNDS)]
        engine.milliseconds(voices[0])
        read = statistics.median(engine.milliseconds(voice) for voice in voices[1:])
        restored = statistics.median(engine.milliseconds(voices[1]) for _ in range(ROUNDS))
        rows.append(
            {
                "positions": length,
                "read_ms": round(read, 2),
                "restored_ms": round(restored, 2),
                "times_as_fast": round(read / restored, 1),
            }
        )
    return rows


if __name__ == "__main__":
    main()
