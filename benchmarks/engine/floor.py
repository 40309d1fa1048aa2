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
_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(slots=True)
class Bandwidth:
    """The best that was measured so far: a neighbour may slow a measurement down, but none makes the memory faster."""

    bytes_per_second: float
    measured_by: str
    """By which matrix-vector product."""
    cache_bytes: int
    """The last-level cache; 0 where nothing tells."""

    def floor_ms(self, num_bytes: int) -> float:
        return num_bytes / self.bytes_per_second * 1000

    def note(self, other: "Bandwidth") -> None:
        self.bytes_per_second = max(self.bytes_per_second, other.bytes_per_second)


def step_bytes(shape: CsmShape, precision: Precision, batch: int, kv: int, cache_bytes: int) -> int:
    """By `RULE`, for `batch` rows that stand at `kv`. Norms, scales and single embedding rows are not counted."""
    size = precision.dtype.itemsize
    matrix_size = size if precision.is_dense else 1
    hidden, depth_hidden = shape.backbone.hidden_size, shape.depth.hidden_size
    num_passes = shape.num_codebooks - 1
    heads = shape.vocab_size * (hidden + num_passes * depth_hidden) + hidden * depth_hidden
    depth = _num_weights(shape.depth) * matrix_size
    depth_reads = 1 if depth <= cache_bytes else num_passes
    keys = shape.backbone.num_layers * 2 * shape.backbone.num_kv_heads * shape.backbone.head_dim
    return _num_weights(shape.backbone) * matrix_size + heads * size + depth * depth_reads + batch * kv * keys * size


def measure_bandwidth(device: torch.device) -> Bandwidth:
    """With torch's present number of threads. A matrix far larger than any cache, the best of several products."""
    if device.type == "cuda":
        matrix = torch.randn(1 << 15, 1 << 15, device=device, dtype=torch.bfloat16)
        cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        return Bandwidth(_product_rate(matrix, torch.cuda.synchronize), "torch.mv, bfloat16, 2 GiB", cache_bytes)
    if find_spec("platformdirs"):
        from serve_app.model.native.bandwidth import read_bandwidth

        with suppress(StartupError):  # no compiler: torch measures it too
            rate = read_bandwidth(torch.get_num_threads())
            return Bandwidth(rate, "the native kernel, bfloat16, 512 MiB", _cpu_cache_bytes())
    # Drawn once and repeated: to draw as many numbers would take seconds.
    matrix = torch.randn(1 << 7, 1 << 13).repeat(1 << 7, 1)
    rate = _product_rate(matrix, lambda: None)
    return Bandwidth(rate, "torch.mv, float32, 512 MiB", _cpu_cache_bytes())


def _num_weights(stack: TransformerShape) -> int:
    heads, keys = stack.num_heads * stack.head_dim, stack.num_kv_heads * stack.head_dim
    layer = stack.hidden_size * (2 * heads + 2 * keys + 3 * stack.intermediate_size)
    return stack.num_layers * layer


def _product_rate(matrix: torch.Tensor, wait: Callable[[], None]) -> float:
    """Bytes per second."""
    vector = torch.randn(matrix.shape[1], device=matrix.device, dtype=matrix.dtype)
    best = float("inf")
    for _ in range(_REPEATS):
        wait()
        started = time.perf_counter()
        torch.mv(matrix, vector)
        wait()
        best = min(best, time.perf_counter() - started)
    return matrix.nbytes / best


def _cpu_cache_bytes() -> int:
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = [path.read_text().strip() for path in _CPU_CACHES.glob("index*/size")]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units), default=0)
