"""What a borrowed card is asked, in order: first whether the kernels are right, then how fast they are."""

from dataclasses import dataclass

_TINY = "--preset tiny --device cpu --threads 1 --step plain"


@dataclass(frozen=True, slots=True)
class Asked:
    """One process: `python -m <module> <arguments>`. Those that measure get `--json FILE` too."""

    name: str
    module: str
    arguments: str
    rehearsal: str
    limit_seconds: float
    measures: bool = True


ASKED = (
    Asked("compile", "benchmarks.gpu.compiling", "", "--preset tiny --slots 1 --positions 256", 60),
    Asked("probe", "benchmarks.gpu.probe", "", "", 40),
    Asked("kernels", "pytest", "tests/gpu/test_gpu_kernels.py -q", "tests/gpu/test_gpu_kernels.py -q", 110, False),
    Asked(
        "engine",
        "pytest",
        "tests/gpu/test_gpu_prefill.py tests/gpu/test_gpu_steps.py tests/gpu/test_gpu_service.py -q",
        "tests/gpu/test_gpu_prefill.py tests/gpu/test_gpu_steps.py tests/gpu/test_gpu_service.py -q",
        90,
        False,
    ),
    Asked(
        "steps",
        "benchmarks.engine.step",
        "--preset csm-1b --device cuda --kv 512 --engines csm-serve --dtype bf16 --batch 1,32,64,128 "
        "--step fused,graphs",
        f"{_TINY} --steps 1 --kv 16 --engines csm-serve --batch 1,2",
        110,
    ),
    Asked(
        "fp8",
        "benchmarks.engine.step",
        "--preset csm-1b --device cuda --kv 512 --engines csm-serve --dtype fp8 --batch 1,32 --step fused",
        f"{_TINY} --steps 1 --kv 16 --engines csm-serve --dtype int8 --batch 1",
        50,
    ),
    Asked(
        "dependent",
        "benchmarks.engine.step",
        "--preset csm-1b --device cuda --kv 512 --engines csm-serve --dtype bf16 --batch 1,32 --step fused --dependent",
        f"{_TINY} --steps 1 --kv 16 --engines csm-serve --batch 1 --dependent",
        40,
    ),
    Asked("profile", "benchmarks.gpu.kernel_times", "", "--preset tiny --batch 1 --kv 64", 40),
    Asked(
        "prefill",
        "benchmarks.engine.prefix_hit",
        "--preset csm-1b --device cuda --positions 100,500",
        f"{_TINY} --positions 64",
        40,
    ),
    Asked(
        "streams",
        "benchmarks.engine.streams",
        "--preset csm-1b --device cuda --slots 128,256,400",
        f"{_TINY} --slots 1,2 --steps 4",
        70,
    ),
)

PREDICTED_MS: dict[tuple[str, str, int], tuple[float, float]] = {
    ("fused", "bf16", 1): (3.6, 5.1),
    ("fused", "bf16", 32): (4.2, 6.6),
    ("fused", "bf16", 64): (5.6, 8.6),
    ("fused", "bf16", 128): (7.6, 11.0),
    ("fused, dependent", "bf16", 1): (3.0, 4.5),
    ("fused, dependent", "bf16", 32): (3.6, 6.6),
    ("fused", "fp8", 1): (2.6, 3.8),
    ("fused", "fp8", 32): (3.4, 5.4),
    ("graphs", "bf16", 1): (10.0, 12.0),
    ("graphs", "bf16", 32): (11.0, 13.0),
    ("graphs", "bf16", 64): (12.0, 14.0),
    ("graphs", "bf16", 128): (13.0, 15.0),
}
"""Milliseconds a frame of csm-1b at 512 positions on an H100 or H200, by step, type and batch. Estimates from counted
nodes and bytes: no card has run this yet."""
