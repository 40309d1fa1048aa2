"""What a step cannot be faster than: the bytes that it must read, over how fast this machine reads them."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from benchmarks.engine.precision import Precision
from serve_app.errors import StartupError
from serve_app.model.processor import last_level_cache_bytes
from serve_app.model.shape import CsmShape
from serve_app.model.step_bytes import Sizes
from serve_app.model.step_bytes import step_bytes as step_bytes_of

_REPEATS = 8


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
    """By `step_bytes.RULE`, for `batch` rows that stand at `kv`."""
    sizes = Sizes.of(precision.dtype.itemsize, precision.quantization)
    return step_bytes_of(shape, sizes, batch, kv, cache_bytes)


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
    return Bandwidth(readings[best], f"{best}, 512 MiB", last_level_cache_bytes())


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
