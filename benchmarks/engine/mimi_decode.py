"""Milliseconds in which the codec decodes one frame of every stream, by how many streams there are room for.

    python -m benchmarks.engine.mimi_decode --device cuda --slots 1,8,32,128,256

`SlotDecoder` with random weights, float32, every slot taking part. Needs moshi.
"""

import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from transformers import MimiConfig

from benchmarks.engine.run import PRESETS, Run, console, numbers, one_of, parser_for, refuse
from serve_app.errors import StartupError
from serve_app.model.presets import Preset, preset_config
from serve_app.model.random_weights import random_tensors
from serve_app.model.weights import CODEC_PREFIX

_FRAME_MS = 80.0
_COLUMNS = {
    "preset": "preset",
    "slots": "slots",
    "ms_per_tick": "ms a tick",
    "share_of_real_time": "share of real time used",
}


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_for(__doc__)
    parser.add_argument("--preset", type=one_of(PRESETS), default=["csm-1b"])
    parser.add_argument("--slots", type=numbers, default=[1, 8])
    parser.add_argument("--ticks", type=int, default=30)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    try:
        run = Run(options, "mimi-decode-" + "-".join(options.preset), "benchmarks.engine.mimi_decode", arguments)
    except StartupError as error:
        refuse(parser, error)
        return
    for preset in options.preset:
        with console.status(f"{preset}: making the codec"):
            config, tensors = _codec(preset)
        for slots in options.slots:
            with console.status(f"{preset}, {slots} slots"):
                rows.append({"preset": preset, **_measure(config, tensors, slots, options.ticks, run.device)})
            run.note(rows=rows)
    run.show(rows, _COLUMNS)


def _codec(preset: Preset) -> tuple[MimiConfig, list[tuple[str, torch.Tensor]]]:
    config = preset_config(preset)
    assert isinstance(config.codec_config, MimiConfig), "CsmConfig makes it one"
    tensors = [tensor for tensor in random_tensors(config, seed=0) if tensor.name.startswith(CODEC_PREFIX)]
    return config.codec_config, [(tensor.name.removeprefix(CODEC_PREFIX), tensor.make(0)) for tensor in tensors]


def _measure(
    config: MimiConfig, tensors: list[tuple[str, torch.Tensor]], slots: int, num_ticks: int, device: torch.device
) -> dict[str, Any]:
    from serve_app.codec.decoder import SlotDecoder
    from serve_app.codec.mimi import load_mimi

    decoder = SlotDecoder(load_mimi(tensors, config, config.num_quantizers, device), slots)
    decoder.warm_up()
    opened = [slot for slot in (decoder.open() for _ in range(slots)) if slot is not None]
    random = np.random.default_rng(0)
    times = []
    for _ in range(num_ticks):
        codes = random.integers(0, config.codebook_size, (slots, config.num_quantizers))
        started = time.perf_counter()
        decoder.decode(dict(zip(opened, codes, strict=True)))
        times.append((time.perf_counter() - started) * 1000)
    ms = statistics.median(times)
    return {"slots": slots, "ms_per_tick": round(ms, 3), "share_of_real_time": round(ms / _FRAME_MS, 4)}


if __name__ == "__main__":
    main()
