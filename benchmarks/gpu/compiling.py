"""Compiles the fused step's kernels of csm-1b in parallel, so that no section after it compiles while it measures.

python -m benchmarks.gpu.compiling --slots 256 --json FILE
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch

from benchmarks.engine.random_model import config_of
from serve_app.engine.steps.precompile import compile_all, targets
from serve_app.model.shape import CsmShape

_DEPENDENT_ROWS = 32
"""The largest batch of the section `dependent`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="csm-1b")
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--commit", default="")
    options = parser.parse_args()
    major, minor = torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)
    began = time.monotonic()
    cards = [10 * major + minor]
    wanted = list(targets(cards, ["none", "fp8"], options.slots))
    wanted += targets(cards, ["none"], _DEPENDENT_ROWS, dependent=True)
    shape = CsmShape.from_config(config_of(options.preset))
    compile_all(wanted, shape, options.slots, options.positions, len(os.sched_getaffinity(0)))
    options.json.write_text(json.dumps({"seconds": round(time.monotonic() - began, 1), "targets": len(wanted)}))


if __name__ == "__main__":
    main()
