"""What `benchmarks.gpu` runs, most wanted first, and the small form of each that a CPU can run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """One process: `python -m <module> <arguments>`, with `--json FILE` added."""

    name: str
    module: str
    arguments: tuple[str, ...]
    rehearsal: tuple[str, ...]
    limit_seconds: float
    needs: tuple[str, ...] = ()
    """Modules without which it is left out."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FULL = "--preset csm-1b --device cuda"
_TINY = "--preset tiny --device cpu --threads 1"
_TINY_STEPS = f"{_TINY} --step plain --steps 1 --kv 16"

SECTIONS = (
    Section(
        "engine-step",
        "benchmarks.engine.step",
        _words(f"{_FULL} --dtype bf16 --batch 1,8,32,128,256 --kv 512 --variants eager"),
        _words(f"{_TINY_STEPS} --batch 1,2"),
        150,
    ),
    Section(
        "streams",
        "benchmarks.engine.streams",
        _words(f"{_FULL} --slots 256,512,1024"),
        _words(f"{_TINY} --step plain --slots 1,2 --steps 4"),
        120,
    ),
    Section(
        "quantization",
        "benchmarks.engine.step",
        _words(f"{_FULL} --dtype int8,fp8 --batch 1,8,32,128 --kv 512 --engines csm-serve"),
        _words(f"{_TINY_STEPS} --dtype int8 --batch 1 --engines csm-serve"),
        70,
    ),
    Section(
        "prefill",
        "benchmarks.engine.prefix_hit",
        _words(f"{_FULL} --positions 100,500,1000"),
        _words(f"{_TINY} --step plain --positions 64"),
        45,
    ),
    Section(
        "kv-length",
        "benchmarks.engine.step",
        _words(f"{_FULL} --dtype bf16 --batch 1,32,128,256 --kv 256,1024,2048 --engines csm-serve"),
        _words(f"{_TINY_STEPS},24 --batch 1 --engines csm-serve"),
        60,
    ),
    Section(
        "steps",
        "benchmarks.engine.step",
        _words(f"{_FULL} --dtype bf16 --batch 1,32,128 --kv 512 --engines csm-serve --step plain,graphs,fused"),
        _words(f"{_TINY_STEPS} --batch 1 --engines csm-serve"),
        90,
    ),
    Section(
        "mimi",
        "benchmarks.engine.mimi_decode",
        _words(f"{_FULL} --slots 1,8,32,128,256"),
        _words(f"{_TINY} --slots 1,2 --ticks 2"),
        45,
        needs=("moshi",),
    ),
    Section(
        "transformers-static",
        "benchmarks.engine.step",
        _words(f"{_FULL} --dtype bf16 --batch 1,32 --kv 256 --variants static"),
        _words(f"{_TINY_STEPS} --batch 1 --engines transformers"),
        130,
    ),
    Section(
        "quantization-error",
        "benchmarks.engine.quantization_error",
        _words(f"{_FULL} --step plain"),
        _words(f"{_TINY} --step plain --frames 2"),
        45,
    ),
)
