"""A whole frame as one CUDA graph: one for each bucket of rows and readable positions, recorded at start."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from serve_app.engine.parts import PendingFrames
from serve_app.model.sampling import SamplingPlan

_log = logging.getLogger(__name__)

_SMALLEST_READABLE = 256
"""Graphs for fewer positions would save nothing: this many are a tenth of what a step reads of its weights."""


class StaticFrame(Protocol):
    """Computes a frame over fixed memory, so that it can be recorded: nothing in it may depend on the host."""

    usual_top_k: int
    """The graphs of the usual sampling draw from so many candidates, without top-p and repetition penalty. 0 where
    one kind of graph does everything."""

    def __call__(self, num_rows: int, num_readable: int, usual: bool) -> Tensor:
        """[num_rows, K] codes. Advances the first rows, as many as `set_running` said, and no other's state."""
        ...

    def set_running(self, num_rows: int) -> None:
        """Not part of a graph: called between two of them, where the number has changed."""
        ...


class Graph(Protocol):
    def replay(self) -> None: ...


class Device(Protocol):
    """What only CUDA does."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        """Run `work` to warm it up, then record it; the tensor is where each replay leaves its result."""
        ...

    def send(self, codes: Tensor) -> PendingFrames:
        """Begin to copy codes to the host."""
        ...

    def used_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one graph serves: up to so many rows, below such a position."""

    num_rows: int
    num_readable: int
    usual: bool


class GraphedStep:
    """Satisfies `frame_step.FrameStep`: while the host hands out one frame, the device computes the next."""

    def __init__(self, frame: StaticFrame, device: Device, max_rows: int, max_positions: int) -> None:
        self.lookahead = 1
        self._frame = frame
        self._device = device
        self._row_sizes = row_buckets(max_rows)
        self._readable_sizes = readable_buckets(max_positions)
        self._num_running = -1
        self._graphs = dict(self._record_all())

    def launch(self, num_rows: int, num_readable: int, plan: SamplingPlan) -> PendingFrames:
        """The next frame; what it needs is on the device already, but for the number of rows where that changed."""
        if num_rows != self._num_running:
            self._frame.set_running(num_rows)
            self._num_running = num_rows
        graph, codes = self._graphs[self._bucket_for(num_rows, num_readable, plan)]
        graph.replay()
        return self._device.send(codes[:num_rows])

    def _bucket_for(self, num_rows: int, num_readable: int, plan: SamplingPlan) -> Bucket:
        # A step launched ahead of its sequence's end may stand one position too far: its codes are not taken.
        num_readable = min(num_readable, self._readable_sizes[-1])
        is_usual = plan.max_top_k <= self._frame.usual_top_k and not plan.any_top_p and not plan.any_penalty
        return Bucket(
            next(size for size in self._row_sizes if size >= num_rows),
            next(size for size in self._readable_sizes if size >= num_readable),
            is_usual,
        )

    def _record_all(self) -> Iterator[tuple[Bucket, tuple[Graph, Tensor]]]:
        """The largest first: the smaller ones then live in its memory."""
        kinds = (True, False) if self._frame.usual_top_k else (False,)
        buckets = [
            Bucket(rows, readable, usual)
            for usual in kinds
            for rows in reversed(self._row_sizes)
            for readable in reversed(self._readable_sizes)
        ]
        self._frame.set_running(0)
        started, bytes_before = time.monotonic(), self._device.used_bytes()
        _log.info("recording %d CUDA graphs of up to %d rows", len(buckets), self._row_sizes[-1])
        for number, bucket in enumerate(buckets, start=1):
            with torch.inference_mode():
                yield bucket, self._device.record(self._work_of(bucket))
            if number % 10 == 0:
                _log.info("recorded %d of %d CUDA graphs", number, len(buckets))
        seconds, used = time.monotonic() - started, self._device.used_bytes() - bytes_before
        _log.info("recorded %d CUDA graphs in %.1f s, %.0f MB", len(buckets), seconds, used / 1e6)

    def _work_of(self, bucket: Bucket) -> Callable[[], Tensor]:
        return lambda: self._frame(bucket.num_rows, bucket.num_readable, bucket.usual)


def row_buckets(max_rows: int) -> list[int]:
    """Powers of two, and the largest batch itself. A padded row costs little: the weights are read for all at once."""
    return [*(2**n for n in range((max_rows - 1).bit_length())), max_rows]


def readable_buckets(max_positions: int) -> list[int]:
    """Powers of two from 256 on, up to all positions."""
    sizes = []
    size = _SMALLEST_READABLE
    while size < max_positions:
        sizes.append(size)
        size *= 2
    return [*sizes, max_positions]


def num_graphs(max_rows: int, max_positions: int, kinds: int = 1) -> int:
    """How many are recorded, for the memory plan."""
    return len(row_buckets(max_rows)) * len(readable_buckets(max_positions)) * kinds
