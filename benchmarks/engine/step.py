"""Milliseconds a frame step: the engine beside transformers' `generate` on the same weights, in one process, in turn.

    python -m benchmarks.engine.step --preset csm-1b --device cpu --batch 1,4 --dtype bf16,int8 --steps 6 --json FILE

Weights are random and made in memory. Each round measures everybody once; a figure is the median of the rounds, a
round the median of its steps. int8, int4 and fp8 are a bfloat16 model with quantized matrices and stand beside
transformers in bfloat16, which has no such mode.
"""

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from benchmarks.engine.floor import measure_bandwidth
from benchmarks.engine.our_step import WARM_UP_STEPS, OurStep
from benchmarks.engine.precision import PRECISIONS, Precision, dense_of
from benchmarks.engine.random_model import config_of, random_model
from benchmarks.engine.rounds import Cell, Rounds, Stepper
from benchmarks.engine.run import PRESETS, STEPS, AskedStep, Run, console, numbers, one_of, parser_for, refuse
from benchmarks.engine.transformers_step import VARIANTS, TransformersStep
from serve_app.engine.steps.choice import StepName, choose_step, step_maker
from serve_app.errors import StartupError
from serve_app.model.csm import Csm
from serve_app.model.device import check_quantization
from serve_app.model.presets import Preset
from serve_app.model.step_bytes import RULE

ENGINES = ("csm-serve", "transformers")
_STEPS_MEASURED = {"tiny": 20, "small": 20, "csm-1b": 6}
_MAX_POSITIONS = 2048
_COLUMNS = {
    "preset": "preset",
    "engine": "engine",
    "variant": "variant",
    "dtype": "dtype",
    "batch": "batch",
    "kv": "kv",
    "ms_per_step": "ms a step",
    "frames_per_s": "frames/s",
    "real_time_factor": "real-time factor",
    "floor_share": "share of floor",
    "speed_up": "times as fast",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of one preset."""

    preset: Preset
    precisions: list[Precision]
    engines: Sequence[str]
    steps: Sequence[AskedStep]
    variants: Sequence[str]
    cells: list[Cell]
    num_steps: int
    dependent: bool


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        run = Run(options, "engine-step-" + "-".join(options.preset), "benchmarks.engine.step", arguments)
        plans = [_plan(parser, options, preset, run.device) for preset in options.preset]
        bandwidth = measure_bandwidth(run.device)
        run.note(native_instruction_set=_instruction_set(), last_level_cache_bytes=bandwidth.cache_bytes, floor=RULE)
        rounds = Rounds(bandwidth)
        for plan in plans:
            for precision in plan.precisions:
                for _ in _measure(plan, precision, run.device, rounds):
                    bandwidth.note(measure_bandwidth(run.device))
                    rate = round(bandwidth.bytes_per_second / 1e9, 2)
                    run.note(bandwidth_gb_per_s=rate, bandwidth_by=bandwidth.measured_by, rows=rounds.rows())
    except StartupError as error:
        refuse(parser, error)
        return
    run.show(rounds.rows(), _COLUMNS)
    console.print(f"read at {bandwidth.bytes_per_second / 1e9:.1f} GB/s by {bandwidth.measured_by}")


def _instruction_set() -> str | None:
    """Of the native step; None where it cannot be."""
    if not find_spec("platformdirs"):
        return None
    from serve_app.model.native.build import instruction_set

    with suppress(StartupError):
        return instruction_set()
    return None


def _measure(plan: Plan, precision: Precision, device: torch.device, rounds: Rounds) -> Iterator[None]:
    """One cell after the other."""
    with console.status(f"{plan.preset}, {precision.name}: making the model"):
        model = random_model(plan.preset, device, precision.dtype)
        # Before the matrices are quantized: transformers keeps the dense ones.
        theirs = _theirs(plan, model)
        model.quantize(precision.quantization)
        ours = _ours(plan, model)
    steppers = [(precision, one) for one in ours] + [(dense_of(precision), one) for one in theirs]
    for cell in plan.cells:
        with console.status(f"{plan.preset}, {precision.name}, batch {cell.batch}, kv {cell.kv}"):
            rounds.measure(plan.preset, model.shape, steppers, cell, plan.num_steps)
        yield
    del model, ours, theirs, steppers
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _ours(plan: Plan, model: Csm) -> list[Stepper]:
    if "csm-serve" not in plan.engines:
        return []
    max_batch, max_kv = max(cell.batch for cell in plan.cells), max(cell.kv for cell in plan.cells)
    chosen: list[StepName] = [choose_step(step, model) for step in plan.steps]
    ending = ", dependent" if plan.dependent else ""
    return [
        OurStep(model, step_maker(step, dependent=plan.dependent), max_batch, max_kv, step + ending) for step in chosen
    ]


def _theirs(plan: Plan, model: Csm) -> list[Stepper]:
    if "transformers" not in plan.engines:
        return []
    return [TransformersStep(model, config_of(plan.preset), variant) for variant in plan.variants]


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--preset", type=one_of(PRESETS), default=["tiny", "small"])
    parser.add_argument("--batch", type=numbers, default=[1, 4, 8])
    parser.add_argument("--kv", type=numbers, default=[256], help="positions that the last step reads")
    parser.add_argument(
        "--dtype", type=one_of(PRECISIONS), help="fp32, bf16, int8, int4, fp8; default: what the preset is served in"
    )
    parser.add_argument("--steps", type=int, help="a round; default: 20, 6 of csm-1b on a CPU")
    parser.add_argument("--engines", type=one_of(ENGINES), default=list(ENGINES))
    parser.add_argument("--step", type=one_of(STEPS), default=["auto"], help="how ours computes a frame")
    parser.add_argument("--dependent", action="store_true", help="fused kernels start while the one before them ends")
    parser.add_argument(
        "--variants", type=one_of(VARIANTS), help="of transformers; default: eager, and on CUDA static (compiled) too"
    )
    return parser


def _plan(parser: argparse.ArgumentParser, options: argparse.Namespace, preset: Preset, device: torch.device) -> Plan:
    is_cuda = device.type == "cuda"
    names = options.dtype or ["bf16" if is_cuda or preset == "csm-1b" else "fp32"]
    variants = options.variants or (list(VARIANTS) if is_cuda else ["eager"])
    if "static" in variants and not is_cuda:
        parser.error("--variants static: transformers compiles for its static cache on CUDA only")
    num_steps: int = (20 if is_cuda else _STEPS_MEASURED[preset]) if options.steps is None else options.steps
    if num_steps < 1:
        parser.error("--steps must be at least 1")
    shortest = num_steps + WARM_UP_STEPS
    if outside := [kv for kv in options.kv if not shortest < kv <= _MAX_POSITIONS]:
        parser.error(f"--kv {outside[0]}: {num_steps} steps want more than {shortest}, the model has {_MAX_POSITIONS}")
    precisions = [PRECISIONS[name] for name in names]
    for precision in precisions:
        check_quantization(precision.quantization, device)
    cells = [Cell(batch, kv) for kv in options.kv for batch in options.batch]
    return Plan(preset, precisions, options.engines, options.step, variants, cells, num_steps, options.dependent)


if __name__ == "__main__":
    main()
