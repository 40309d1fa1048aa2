"""Milliseconds in which the codec decodes one frame of every stream, by how many streams there are.

    python -m benchmarks.engine.mimi_decode --preset demo,csm-1b --slots 1,8
    python -m benchmarks.engine.mimi_decode --device cuda --slots 1,8,32,128,256

On a CPU the native decoder beside moshi's (`SlotDecoder`), in turn and in the same run, and what a replay of 250 frames
takes; elsewhere moshi's alone. float32, every slot taking part; weights are random but `demo`'s. The floor is the time
in which torch multiplies large matrices of as many floating point operations. Needs moshi.
"""

import shlex
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import MimiConfig

from benchmarks.engine.run import PRESETS, Run, console, numbers, one_of, parser_for, refuse
from serve_app.errors import StartupError
from serve_app.model.checkpoint import open_checkpoint
from serve_app.model.presets import Preset, preset_config
from serve_app.model.random_weights import random_tensors
from serve_app.model.weights import CODEC_PREFIX

if TYPE_CHECKING:
    from moshi.models.compression import MimiModel

    from serve_app.codec.native.decoder import NativeSlotDecoder
    from serve_app.codec.slots import Slots

_FRAME_MS = 80.0
_REPLAY_FRAMES = 250
_COLUMNS = {
    "preset": "preset",
    "slots": "streams",
    "native_ms": "native, ms a frame of all",
    "native_ms_a_stream": "a stream",
    "moshi_ms": "moshi, ms a frame of all",
    "times_as_fast": "times as fast",
    "share_of_floor": "share of floor",
    "replay_seconds": "replay of 250, s",
}


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_for(__doc__)
    parser.add_argument("--preset", type=one_of((*PRESETS, "demo")), default=["csm-1b"])
    parser.add_argument("--slots", type=numbers, default=[1, 8])
    parser.add_argument("--ticks", type=int, default=30, help="of the native decoder; moshi's are as many, or 5 s")
    parser.add_argument("--machine-flags", default="", help='for the compiler, such as "-march=native -mno-avx512f"')
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    try:
        run = Run(options, "mimi-decode-" + "-".join(options.preset), "benchmarks.engine.mimi_decode", arguments)
    except StartupError as error:
        refuse(parser, error)
        return
    flops_a_second = _flops_a_second(run.device)
    run.note(machine_flags=options.machine_flags or "-march=native", gflops_a_second=round(flops_a_second / 1e9, 1))
    for preset in options.preset:
        with console.status(f"{preset}: making the codec"):
            make = _codec(preset, run.device)
        for slots in options.slots:
            with console.status(f"{preset}, {slots} streams"):
                row = _measure(make(), slots, options.ticks, flops_a_second, tuple(shlex.split(options.machine_flags)))
            rows.append({"preset": preset, "slots": slots, **row})
            run.note(rows=rows)
    run.show(rows, _COLUMNS)


def _codec(preset: str, device: torch.device) -> "Callable[[], MimiModel]":
    """Makes one after the other, over the same weights."""
    from serve_app.codec.mimi import load_mimi

    if preset == "demo":
        checkpoint = open_checkpoint("demo", None)
        config, tensors = checkpoint.config.codec_config, list(checkpoint.codec_tensors())
    else:
        whole = preset_config(cast(Preset, preset))
        made = [tensor for tensor in random_tensors(whole, seed=0) if tensor.name.startswith(CODEC_PREFIX)]
        config, tensors = whole.codec_config, [(t.name.removeprefix(CODEC_PREFIX), t.make(0)) for t in made]
    assert isinstance(config, MimiConfig), "CsmConfig makes it one"
    return lambda: load_mimi(tensors, config, config.num_quantizers, device)


def _measure(
    mimi: "MimiModel", num_streams: int, num_ticks: int, flops_a_second: float, machine_flags: tuple[str, ...]
) -> dict[str, Any]:
    from serve_app.codec.decoder import SlotDecoder

    native = _native(mimi, num_streams, machine_flags) if next(mimi.parameters()).device.type == "cpu" else None
    flops = _flops_a_frame(mimi)
    moshi = SlotDecoder(mimi, num_streams)
    row: dict[str, Any] = {"gflop_a_frame": round(flops / 1e9, 4)}
    if native is None:
        moshi_ms = _tick_ms(moshi, mimi, num_streams, num_ticks)
        return row | {"moshi_ms": round(moshi_ms, 3), "share_of_real_time": round(moshi_ms / _FRAME_MS, 4)}
    rounds = [
        (_tick_ms(native, mimi, num_streams, num_ticks), _tick_ms(moshi, mimi, num_streams, num_ticks))
        for _ in range(3)
    ]
    native_ms, moshi_ms = (statistics.median(column) for column in zip(*rounds, strict=True))
    row |= {
        "native_ms": round(native_ms, 3),
        "native_ms_a_stream": round(native_ms / num_streams, 3),
        "moshi_ms": round(moshi_ms, 3),
        "times_as_fast": round(statistics.median(theirs / ours for ours, theirs in rounds), 1),
        "share_of_floor": round(flops * num_streams / flops_a_second / (native_ms / 1000), 2),
        "share_of_real_time": round(native_ms / _FRAME_MS, 4),
    }
    return row | ({"replay_seconds": round(_replay_seconds(native, mimi), 3)} if num_streams == 1 else {})


def _native(mimi: "MimiModel", num_slots: int, machine_flags: tuple[str, ...]) -> "NativeSlotDecoder":
    from serve_app.codec.native.decoder import SOURCE, NativeSlotDecoder
    from serve_app.codec.native.from_mimi import decoder_weights
    from serve_app.model.native import build

    library = build.load(build.build(machine_flags or build.native_flags(), source=SOURCE))
    return NativeSlotDecoder(decoder_weights(mimi), num_slots, torch.get_num_threads(), library)


def _tick_ms(decoder: "Slots", mimi: "MimiModel", num_streams: int, num_ticks: int) -> float:
    """Median of one frame of each stream, in one call; at most 5 seconds long."""
    decoder.warm_up()
    slots = [slot for slot in (decoder.open() for _ in range(num_streams)) if slot is not None]
    times: list[float] = []
    while len(times) < num_ticks and sum(times) < 5000:
        codes = _codes(mimi, num_streams, len(times))
        started = time.perf_counter()
        decoder.decode({slot: frame[None] for slot, frame in zip(slots, codes, strict=True)})
        times.append((time.perf_counter() - started) * 1000)
    for slot in slots:
        decoder.close(slot)
    return statistics.median(times)


def _replay_seconds(decoder: "NativeSlotDecoder", mimi: "MimiModel") -> float:
    """One stream's frames, as many a call as the service hands over."""
    slot = decoder.open()
    assert slot is not None, "no stream is open"
    codes = _codes(mimi, _REPLAY_FRAMES, 0)
    started = time.perf_counter()
    for first in range(0, _REPLAY_FRAMES, decoder.frames_per_call):
        decoder.decode({slot: codes[first : first + decoder.frames_per_call]})
    seconds = time.perf_counter() - started
    decoder.close(slot)
    return seconds


def _codes(mimi: "MimiModel", num_frames: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(mimi.cardinality, size=(num_frames, mimi.num_codebooks))


def _flops_a_frame(mimi: "MimiModel") -> int:
    """Of its matrix products: all but a few hundredths of what there is."""
    from serve_app.codec.native.from_mimi import decoder_weights

    weights = decoder_weights(mimi)
    layers = [m.weight.size for layer in weights.layers for m in (layer.qkv, layer.out, layer.up, layer.down)]
    num_rows = weights.num_positions
    total = num_rows * (sum(layers) + weights.first.weight.size)
    for block in weights.blocks:
        total += num_rows * block.spread.weight.size
        num_rows *= block.stride
        total += num_rows * (block.narrow.weight.size + block.widen.weight.size)
    return 2 * (total + num_rows * weights.last.weight.size)


def _flops_a_second(device: torch.device) -> float:
    """The best of some products of large float32 matrices by torch."""
    size = 1024
    a, b = (torch.ones(size, size, device=device) for _ in range(2))
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        (a @ b)[0, 0].item()
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    main()
