"""Frames a second of the engine's step, side by side with transformers' `generate` on the same checkpoint.

    python -m benchmarks.engine_step --presets tiny,demo,csm-1b --batches 1,4,8

The one benchmark that runs in the engine's process. transformers' time for a frame is the difference between a long
and a short generation, so that its prefill does not count; ours is the median of single steps.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import CsmForConditionalGeneration

from benchmarks import results_file
from serve_app.engine.engine import Engine
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.engine.sequence import Sequence
from serve_app.messages import GenerationRequest, SamplingParams
from serve_app.model.checkpoint import Checkpoint, load_model, open_checkpoint
from serve_app.model.create import StoredDtype, create_checkpoint
from serve_app.model.device import pick_device, use_threads
from serve_app.model.presets import Preset
from serve_app.model.tokenizer import TextTokenizer
from serve_app.settings import EngineSettings, Settings

TEXT = "The quick brown fox jumps over the lazy dog."
ROUNDS = 3
"""Both are measured in turn, this often, and the median taken: neighbours on a shared machine disturb both."""
_console = Console(width=110)


@dataclass(frozen=True, slots=True)
class Case:
    """What to measure. The full-size model is measured in the type it is served in, and in few steps."""

    preset: Preset
    dtype: StoredDtype
    num_steps: int


CASES = {
    "tiny": Case("tiny", "float32", 20),
    "demo": Case("demo", "float32", 20),
    "csm-1b": Case("csm-1b", "bfloat16", 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="tiny,demo")
    parser.add_argument("--batches", default="1,4,8")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as a serving engine takes")
    options = parser.parse_args()
    use_threads(options.threads)
    transformers.logging.set_verbosity_error()
    device = pick_device("auto")
    batches = [int(size) for size in options.batches.split(",")]
    rows = [row for name in options.presets.split(",") for row in _measure(CASES[name], batches, device)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    threads = torch.get_num_threads()
    _console.print(_table(rows, f"{name}, {results_file.processor()}, threads: {threads}"))
    command = f"python -m benchmarks.engine_step --presets {options.presets} --threads {threads}"
    what = "engine-step-" + options.presets.replace(",", "-")
    _console.print(f"saved as {results_file.write(what, name, rows, command)}")


def _measure(case: Case, batches: list[int], device: torch.device) -> list[dict[str, Any]]:
    with _console.status(f"{case.preset}: making the checkpoint"):
        checkpoint = checkpoint_of(case)
    with _console.status(f"{case.preset}: loading"):
        dtype = getattr(torch, case.dtype)
        ours = OurEngine(checkpoint, dtype, device, max(batches))
        theirs: Any = CsmForConditionalGeneration.from_pretrained(checkpoint.folder, dtype=dtype)
        theirs.to(device)
    rows = []
    for batch in batches:
        our_times, their_times = [], []
        with _console.status(f"{case.preset}: batch {batch}"):
            for _ in range(ROUNDS):
                our_times.append(ours.frame_ms(batch, case.num_steps))
                their_times.append(_transformers_frame_ms(theirs, ours.tokenizer, batch, case.num_steps))
        our_ms, their_ms = statistics.median(our_times), statistics.median(their_times)
        rows.append(
            {
                "preset": case.preset,
                "dtype": case.dtype,
                "batch": batch,
                "frame_ms": round(our_ms, 2),
                "frames_per_second": round(batch * 1000 / our_ms, 1),
                "transformers_frame_ms": round(their_ms, 2),
                "speed_up": round(their_ms / our_ms, 2),
            }
        )
    return rows


def checkpoint_of(case: Case) -> Checkpoint:
    folder = Settings().data_dir / "benchmarks" / case.preset
    if not folder.exists():
        create_checkpoint(folder, case.preset, seed=0, dtype=case.dtype)
    return open_checkpoint(str(folder), None, Path())


class OurEngine:
    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, max_batch: int) -> None:
        shape = checkpoint.shape
        self._model = load_model(checkpoint, device, dtype)
        self._settings = EngineSettings(max_batch_size=max_batch)
        self._limits = ModelLimits(shape.num_codebooks, shape.codebook_size, shape.backbone.max_positions)
        self.tokenizer = TextTokenizer(checkpoint)

    def frame_ms(self, batch: int, num_steps: int) -> float:
        """Median time of one step that decodes `batch` sequences."""
        runner = ModelRunner(self._model, batch, self._limits.max_positions)
        engine = Engine(runner, self._settings, "benchmark")
        for seed in range(batch):
            sampling = SamplingParams(seed=seed, max_frames=num_steps + 10, min_frames=num_steps + 10)
            request = GenerationRequest(str(seed), TEXT, 0, sampling=sampling)
            prompt = build_prompt(request, self.tokenizer, self._limits)
            engine.add(Sequence(request, prompt, lambda message: None, time.monotonic()))
        engine.step()
        return statistics.median(_milliseconds(engine.step) for _ in range(num_steps))


def _transformers_frame_ms(model: Any, tokenizer: TextTokenizer, batch: int, num_steps: int) -> float:
    ids = torch.tensor([tokenizer.encode(0, TEXT)] * batch, device=model.device)
    reserved = list(range(model.config.codec_config.codebook_size, model.config.vocab_size))

    def generate(num_frames: int) -> Any:
        sampling = {"do_sample": True, "top_k": 50, "temperature": 0.9, "suppress_tokens": reserved}
        depth = {f"depth_decoder_{name}": value for name, value in sampling.items()}
        return model.generate(input_ids=ids, max_new_tokens=num_frames, **sampling, **depth)

    generate(1)
    short = statistics.median(_milliseconds(lambda: generate(1)) for _ in range(2))
    return (_milliseconds(lambda: generate(1 + num_steps)) - short) / num_steps


def _milliseconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1000


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    for column in ("preset", "dtype", "batch", "ms a frame", "frames/s", "transformers ms a frame", "times as fast"):
        table.add_column(column, justify="left" if column in ("preset", "dtype") else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    main()
