"""What adapters cost: steps of eight rows with four of them beside steps without, in one process, in turn.

    python -m benchmarks.engine.adapters --preset small,csm-1b --dtype fp32,bf16

Weights are random and made in memory. A figure is the median of the rounds' medians, the ratio that of their ratios.
"""

import gc
import statistics
import sys
from itertools import cycle, islice

import torch

from benchmarks.engine.our_step import OurStep
from benchmarks.engine.precision import PRECISIONS
from benchmarks.engine.random_model import random_model
from benchmarks.engine.run import PRESETS, Run, one_of, parser_for, refuse
from serve_app.engine.steps.choice import choose_step, step_maker
from serve_app.errors import StartupError
from serve_app.model.adapters.low_rank import PARTS, STACKS, Change, LoadedAdapter, part_sizes
from serve_app.model.csm import Csm

_COLUMNS = {
    "preset": "preset",
    "dtype": "dtype",
    "batch": "rows",
    "adapters": "adapters",
    "rank": "rank",
    "ms_without": "ms without",
    "ms_with": "ms with",
    "ratio": "ratio",
}


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_for(__doc__)
    parser.add_argument("--preset", type=one_of(PRESETS), default=["small"])
    parser.add_argument("--dtype", type=one_of(PRECISIONS), default=["fp32"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    try:
        run = Run(options, "engine-adapters-" + "-".join(options.preset), "benchmarks.engine.adapters", arguments)
    except StartupError as error:
        refuse(parser, error)
        return
    rows = []
    for preset in options.preset:
        for name in options.dtype:
            precision = PRECISIONS[name]
            model = random_model(preset, run.device, precision.dtype)
            model.quantize(precision.quantization)
            adapters = [random_adapter(model, options.rank, seed) for seed in range(options.adapters)]
            rounds = _measure(model, adapters, options.batch, options.steps, options.rounds)
            without, with_ = (statistics.median(side) for side in zip(*rounds, strict=True))
            rows.append(
                {
                    "preset": preset,
                    "dtype": name,
                    "batch": options.batch,
                    "adapters": options.adapters,
                    "rank": options.rank,
                    "ms_without": round(without, 2),
                    "ms_with": round(with_, 2),
                    "ratio": round(statistics.median(b / a for a, b in rounds), 3),
                }
            )
            run.note(rows=rows)
            del model, adapters
            gc.collect()
    run.show(rows, _COLUMNS)


def random_adapter(model: Csm, rank: int, seed: int) -> LoadedAdapter:
    """One that changes every matrix of backbone and depth decoder, a little."""
    generator = torch.Generator(model.device).manual_seed(seed)

    def change(matrix: str, part_rows: tuple[int, ...], columns: int) -> Change:
        ends = tuple(torch.tensor(part_rows).cumsum(0).tolist())
        sizes = ((len(PARTS[matrix]) * rank, columns), (ends[-1], rank))
        down, up = (
            torch.randn(size, generator=generator, device=model.device).mul_(0.01).to(model.dtype) for size in sizes
        )
        return Change(down, up, ends)

    stacks = {}
    for stack in STACKS:
        transformer = getattr(model, stack)
        rows, columns = part_sizes(transformer.shape)
        stacks[stack] = tuple({m: change(m, rows[m], columns[m]) for m in PARTS} for _ in transformer.blocks)
    return LoadedAdapter(f"random-{seed}", rank, **stacks)


def _measure(
    model: Csm, adapters: list[LoadedAdapter], batch: int, num_steps: int, num_rounds: int
) -> list[tuple[float, float]]:
    """Milliseconds a step of each round, without and with adapters. Rows take them in turn."""
    step = OurStep(model, step_maker(choose_step("auto", model)), batch, 256, "auto")
    given = list(islice(cycle(adapters), batch))
    return [
        (
            statistics.median(step.frame_ms(batch, 128, num_steps)),
            statistics.median(step.frame_ms(batch, 128, num_steps, given)),
        )
        for _ in range(num_rounds)
    ]


if __name__ == "__main__":
    main()
