"""Whether this machine's processor can speak CSM-1B in real time, and with which settings.

A step of one stream waits for the weights that it reads. So the answer follows from how fast the memory is read, how
many bytes a frame needs in each format, and which share of the memory's speed our kernels reach (docs/benchmarks.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from serve_app.messages import FRAME_RATE_HZ
from serve_app.model.matrix import Quantization
from serve_app.model.native import build
from serve_app.model.native.bandwidth import read_bandwidth
from serve_app.model.presets import preset_config
from serve_app.model.processor import available_cores, num_threads
from serve_app.model.shape import CsmShape
from serve_app.model.step_bytes import Sizes, step_bytes

FRAME_MS = 1000 / FRAME_RATE_HZ
CODEC_MS = 9.0
"""Mimi's decoder of CSM-1B, one frame of one stream. It hardly depends on the model's settings."""
POSITIONS = 500
"""Where the row stands: 40 s into a conversation."""
_FORMATS: tuple[tuple[str, int, Quantization, float], ...] = (
    ("bfloat16", 2, "none", 0.75),
    ("bfloat16", 2, "int8", 0.75),
    ("bfloat16", 2, "int4", 0.5),
)
"""Type, its bytes, quantization, and the share of the memory's speed that our kernels reach: the lower end of what was
measured."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One stream of CSM-1B with these settings."""

    dtype: str
    quantization: Quantization
    num_bytes: int
    """That a frame reads."""
    share: float

    @property
    def options(self) -> str:
        return f"--dtype {self.dtype}" + ("" if self.quantization == "none" else f" --quantization {self.quantization}")

    def floor_ms(self, bytes_per_second: float) -> float:
        """The shortest time of a frame's step."""
        return self.num_bytes / bytes_per_second * 1000

    def frame_ms(self, bytes_per_second: float) -> float:
        """A frame's step and its sound."""
        return self.floor_ms(bytes_per_second) / self.share + CODEC_MS

    @property
    def real_time_bytes_per_second(self) -> float:
        """What the memory must give so that a frame takes no longer than it lasts."""
        return self.num_bytes / self.share / (FRAME_MS - CODEC_MS) * 1000


@dataclass(frozen=True, slots=True)
class CpuSpeed:
    """What was read of this machine. Bytes per second: with the threads that `engine.threads` 0 takes, and with all."""

    instruction_set: str
    threads: int
    bytes_per_second: float
    all_threads: int
    all_bytes_per_second: float
    expectations: tuple[Expectation, ...]


def expectations(shape: CsmShape) -> Iterator[Expectation]:
    """As if no cache held the depth decoder. Few processors have one so large, and machines share theirs."""
    for dtype, dense, quantization, share in _FORMATS:
        num_bytes = step_bytes(shape, Sizes.of(dense, quantization), 1, POSITIONS, cache_bytes=0)
        yield Expectation(dtype, quantization, num_bytes, share)


def cpu_speed() -> CpuSpeed:
    """Takes some seconds. Raises StartupError where nothing can be compiled."""
    threads, cores = num_threads(0), available_cores()
    return CpuSpeed(
        build.instruction_set(),
        threads,
        read_bandwidth(threads),
        cores,
        read_bandwidth(cores),
        tuple(expectations(CsmShape.from_config(preset_config("csm-1b")))),
    )


def verdict(speed: CpuSpeed) -> str:
    """One line: whether, and how."""
    for threads, rate in ((0, speed.bytes_per_second), (speed.all_threads, speed.all_bytes_per_second)):
        for one in speed.expectations:  # The most exact first.
            if one.frame_ms(rate) <= FRAME_MS:
                with_threads = f" and engine.threads: {threads} (CSM_ENGINE__THREADS={threads})" if threads else ""
                return f"CSM-1B can be spoken in real time here, with {one.options}{with_threads}."
    rate = max(speed.bytes_per_second, speed.all_bytes_per_second)
    best = min(speed.expectations, key=lambda one: one.frame_ms(rate))
    return (
        f"CSM-1B cannot be spoken in real time here: with {best.options} a second of speech takes "
        f"{best.frame_ms(rate) / FRAME_MS:.1f} s. It needs memory of {best.real_time_bytes_per_second / 1e9:.0f} GB/s, "
        f"and this machine's gives {rate / 1e9:.0f}. Serve it whole (streaming=false), or on a GPU."
    )
