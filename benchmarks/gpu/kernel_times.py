"""Where a frame's time goes: what its kernels take, and what lies between them.

python -m benchmarks.gpu.kernel_times --batch 1,64 --json FILE
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.engine.our_step import OurStep
from benchmarks.engine.random_model import random_model
from serve_app.engine.steps.choice import choose_step, step_maker

_STEPS = 3
_NAMED = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="csm-1b")
    parser.add_argument("--batch", default="1,64")
    parser.add_argument("--kv", type=int, default=512)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--commit", default="")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = [int(each) for each in options.batch.split(",")]
    model = random_model(options.preset, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    name = choose_step("auto" if device.type == "cuda" else "plain", model)
    stepper = OurStep(model, step_maker(name), max(batches), options.kv, name)
    rows = [_row(stepper, batch, options.kv) for batch in batches]
    options.json.write_text(json.dumps({"step": name, "rows": rows}, indent=1))


def _row(stepper: OurStep, batch: int, kv: int) -> dict[str, Any]:
    stepper.frame_ms(batch, kv, _STEPS)
    wall = min(stepper.frame_ms(batch, kv, _STEPS))
    activities = [ProfilerActivity.CUDA] if torch.cuda.is_available() else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiled:
        stepper.frame_ms(batch, kv, _STEPS)
    taken: Counter[str] = Counter()
    for event in profiled.key_averages():
        taken[event.key] += int(event.self_device_time_total or event.self_cpu_time_total)
    # Those that warm the rows up are in the profile too.
    num_steps = _STEPS + 2
    return {
        "batch": batch,
        "wall_ms": round(wall, 2),
        "kernels_ms": round(sum(taken.values()) / 1000 / num_steps, 2),
        "longest": {key: round(each / 1000 / num_steps, 3) for key, each in taken.most_common(_NAMED)},
    }


if __name__ == "__main__":
    main()
