"""Time from a request to its first frame with a voice's clip of 30 seconds as context: read, and restored.

    python -m benchmarks.prefix_hit --presets demo,csm-1b

In the engine's process, one sequence at a time, as `benchmarks.engine_step`.
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import results_file
from benchmarks.engine_step import CASES, Case, checkpoint_of
from serve_app.engine.engine import Engine
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prefix_cache import PrefixCache
from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.engine.sequence import Sequence
from serve_app.messages import Codes, ContextSegment, GenerationRequest, SamplingParams
from serve_app.model.checkpoint import load_model
from serve_app.model.device import pick_device, use_threads
from serve_app.model.tokenizer import TextTokenizer
from serve_app.settings import EngineSettings

CLIP_FRAMES = 376
"""30 seconds."""
ROUNDS = 3
_console = Console(width=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="demo")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as a serving engine takes")
    options = parser.parse_args()
    use_threads(options.threads)
    device = pick_device("auto")
    rows = [_measure(CASES[preset], device) for preset in options.presets.split(",")]
    table = Table(title=f"{device}, {results_file.processor()}, threads: {torch.get_num_threads()}")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _console.print(table)
    command = f"python -m benchmarks.prefix_hit --presets {options.presets} --threads {torch.get_num_threads()}"
    what = "prefix-hit-" + options.presets.replace(",", "-")
    _console.print(f"saved as {results_file.write(what, str(device), rows, command)}")


def _measure(case: Case, device: torch.device) -> dict[str, Any]:
    checkpoint = checkpoint_of(case)
    model = load_model(checkpoint, device, getattr(torch, case.dtype))
    shape = checkpoint.shape
    prefixes = PrefixCache(device, 1 << 30, 0)
    runner = ModelRunner(model, 1, shape.backbone.max_positions, prefixes)
    engine = Engine(runner, EngineSettings(max_batch_size=1), "benchmark")
    limits = ModelLimits(shape.num_codebooks, shape.codebook_size, shape.backbone.max_positions)

    def first_frame_ms(clip_seed: int) -> float:
        codes = np.random.default_rng(clip_seed).integers(1, shape.codebook_size, (CLIP_FRAMES, shape.num_codebooks))
        voice = ContextSegment("What the voice says in its clip.", 0, Codes.from_array(codes), anchor=True)
        request = GenerationRequest("r", "Hello, how are you?", 0, (voice,), SamplingParams(max_frames=1))
        prompt = build_prompt(request, TextTokenizer(checkpoint), limits)
        began = time.perf_counter()
        engine.add(Sequence(request, prompt, lambda message: None, time.monotonic()))
        while engine.step():
            pass
        return (time.perf_counter() - began) * 1000

    first_frame_ms(0)
    read = statistics.median(first_frame_ms(seed) for seed in range(1, 1 + ROUNDS))
    restored = statistics.median(first_frame_ms(1) for _ in range(ROUNDS))
    return {
        "preset": case.preset,
        "dtype": case.dtype,
        "read_ms": round(read, 1),
        "restored_ms": round(restored, 1),
        "times_as_fast": round(read / restored, 1),
    }


if __name__ == "__main__":
    main()
