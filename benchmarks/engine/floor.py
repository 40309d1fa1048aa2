"""What a step cannot be faster than: the bytes that it must read, over how fast this machine reads them."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.engine.precision import Precision
from serve_app.errors import StartupError
from serve_app.model.shape import CsmShape, TransformerShape

RULE = (
    "every matrix of the backbone and every head once a step, the depth decoder's layers once for each of its passes "
    "(once a step where they fit the last-level cache), and each row's keys and values up to its position"
)
_REPEATS = 8
_QUANTIZED_SIZES = {"int8": 1.0, "fp8": 1.0, "int4": 0.5 + 2 / 32}
"""Bytes a weight; those of int4 with their scales."""
_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(slots=True)
class Bandwidth:
    """The best that was measured so far: a neighbour may slow a measurement down, but none makes the memory faster."""

    bytes_per_second: float
    measured_by: str
    """What read so fast."""
    cache_bytes: int
    """The last-level cache; 0 where nothing tells."""

    def floor_ms(self, num_bytes: int) -> float:
        return num_bytes / self.bytes_per_second * 1000

    def note(self, other: "Bandwidth") -> None:
        if other.bytes_per_second > self.bytes_per_second:
            self.bytes_per_second, self.measured_by = other.bytes_per_second, other.measured_by


def step_bytes(shape: CsmShape, precision: Precision, batch: int, kv: int, cache_bytes: int) -> int:
    """By `RULE`, for `batch` rows that stand at `kv`.

    Not counted are norms, the scales of 8 bit weights and single embedding rows.
    """
    size = precision.dtype.itemsize
    matrix_size = size if precision.is_dense else _QUANTIZED_SIZES[precision.quantization]
    hidden, depth_hidden = shape.backbone.hidden_size, shape.depth.hidden_size
    num_passes = shape.num_codebooks - 1
    heads = shape.vocab_size * (hidden + num_passes * depth_hidden) + hidden * depth_hidden
    depth = _num_weights(shape.depth) * matrix_size
    depth_reads = 1 if depth <= cache_bytes else num_passes
    keys = shape.backbone.num_layers * 2 * shape.backbone.num_kv_heads * shape.backbone.head_dim
    num_bytes = _num_weights(shape.backbone) * matrix_size + heads * size + depth * depth_reads
    return round(num_bytes + batch * kv * keys * size)


def measure_bandwidth(device: torch.device) -> Bandwidth:
    """With torch's present number of threads, over far more memory than any cache: the best of independent readings.

    The kernels that are judged by it are not among them: they would hide their own losses.
    """
    if device.type == "cuda":
        matrix = torch.randn(1 << 15, 1 << 15, device=device, dtype=torch.bfloat16)
        cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        rate = _rate(matrix, _times(matrix), torch.cuda.synchronize)
        return Bandwidth(rate, "torch.mv, bfloat16, 2 GiB", cache_bytes)
    readings = _cpu_readings()
    best = max(readings, key=lambda name: readings[name])
    return Bandwidth(readings[best], f"{best}, 512 MiB", _cpu_cache_bytes())


def _cpu_readings() -> dict[str, float]:
    """Bytes per second by what reads."""
    # Drawn once and repeated: to draw as many numbers would take seconds.
    matrix = torch.randn(1 << 7, 1 << 13).repeat(1 << 7, 1)
    readings = {
        "torch.mv, float32": _rate(matrix, _times(matrix), lambda: None),
        "torch.sum, float32": _rate(matrix, matrix.sum, lambda: None),
    }
    if find_spec("platformdirs"):
        from serve_app.model.native.bandwidth import read_bandwidth

        with suppress(StartupError):  # no compiler
            readings["a loop that loads and adds"] = read_bandwidth(torch.get_num_threads())
    return readings


def _num_weights(stack: TransformerShape) -> int:
    heads, keys = stack.num_heads * stack.head_dim, stack.num_kv_heads * stack.head_dim
    layer = stack.hidden_size * (2 * heads + 2 * keys + 3 * stack.intermediate_size)
    return stack.num_layers * layer


def _times(matrix: torch.Tensor) -> Callable[[], object]:
    vector = torch.randn(matrix.shape[1], device=matrix.device, dtype=matrix.dtype)
    return lambda: torch.mv(matrix, vector)


def _rate(matrix: torch.Tensor, read: Callable[[], object], wait: Callable[[], None]) -> float:
    """Bytes per second of the fastest `read` of `matrix`."""
    best = float("inf")
    for _ in range(_REPEATS):
        wait()
        started = time.perf_counter()
        read()
        wait()
        best = min(best, time.perf_counter() - started)
    return matrix.nbytes / best


def _cpu_cache_bytes() -> int:
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = [path.read_text().strip() for path in _CPU_CACHES.glob("index*/size")]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units), default=0)
