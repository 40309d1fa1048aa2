"""The decode step as CUDA graphs, one for each bucket of rows and readable positions, recorded at start."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from serve_app.engine.runner import PendingFrames
from serve_app.engine.steps.plain import AdaptersByRow, FrameStep
from serve_app.engine.steps.prefill import Prefill
from serve_app.engine.steps.static_frame import PlainStaticFrame
from serve_app.model.adapters.pool import RankPool
from serve_app.model.cuda_graphs import garbage_collection_off
from serve_app.model.sampling import SamplingPlan

_log = logging.getLogger(__name__)

_MIN_READABLE = 256
"""Graphs for fewer positions would save nothing: these are a tenth of the bytes that a step reads of its weights."""


class StaticFrame(Protocol):
    """Computes a frame over fixed memory. It reads nothing from the host, so that a graph can record it."""

    usual_top_k: int
    """The top-k of the graphs for usual sampling, which leave out top-p and repetition penalty. 0 where one kind of
    graph does everything."""

    def __call__(self, num_rows: int, num_readable: int, usual: bool) -> Tensor:
        """The codes [num_rows, K]. Advances the state of the first rows, as many as `set_running` said."""
        ...

    def set_running(self, num_rows: int) -> None:
        """Set how many rows are running. Called between graphs, where the number has changed."""
        ...


class Graph(Protocol):
    def replay(self) -> None: ...


class Recorder(Protocol):
    """Records graphs."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        """Run `work` to warm up, then record it. Each replay leaves its result in the returned tensor."""
        ...


class Device(Recorder, Protocol):
    """What a step needs of CUDA. Tests satisfy it on a CPU."""

    def send(self, codes: Tensor) -> PendingFrames:
        """Start to copy codes to the host."""
        ...

    def used_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one graph serves: up to `num_rows` rows, at positions below `num_readable`."""

    num_rows: int
    num_readable: int
    usual: bool
    num_ranks: int = 0
    """Ranks of adapters that it reads. 0: of rows without one."""


class AdaptedFrames:
    """The frames of rows with adapters, in fixed memory. Adapters come and go there, and no graph is recorded anew."""

    def __init__(self, frame: PlainStaticFrame, pool: RankPool, eager: FrameStep) -> None:
        """`eager` computes steps whose adapters do not fit together."""
        self._frame = frame
        self.pool = pool
        self.eager = eager

    @property
    def rank_sizes(self) -> list[int]:
        """A quarter of the room, and all of it."""
        return sorted({size for size in (self.pool.num_ranks // 4, self.pool.num_ranks) if size})

    def set_running(self, num_rows: int) -> None:
        self._frame.set_running(num_rows)

    def __call__(self, bucket: Bucket) -> Tensor:
        adapters = self.pool.adapters(bucket.num_rows, bucket.num_ranks)
        return self._frame(bucket.num_rows, bucket.num_readable, False, adapters)


class GraphedStep:
    """Satisfies `plain.FrameStep`. The device computes the next frame while the host hands out the last."""

    def __init__(
        self,
        frame: StaticFrame,
        prefill: Prefill,
        device: Device,
        max_rows: int,
        max_positions: int,
        adapted: AdaptedFrames | None = None,
    ) -> None:
        """`adapted`: None where no row ever has an adapter."""
        self.lookahead = 1
        self.prefill = prefill
        self._adapted = adapted
        self._frame = frame
        self._device = device
        self._row_sizes = row_buckets(max_rows)
        self._readable_sizes = readable_buckets(max_positions)
        self._num_running = -1
        with garbage_collection_off():
            self._graphs = dict(self._record_all())

    def launch(
        self, num_rows: int, num_readable: int, plan: SamplingPlan, adapters: AdaptersByRow = ()
    ) -> PendingFrames:
        """See `FrameStep.launch`. All input is on the device already; only changed rows and adapters are sent."""
        if num_rows != self._num_running:
            self._set_running(num_rows)
        bucket = self._bucket_for(num_rows, num_readable, plan)
        if adapters:
            assert self._adapted is not None, "loading makes the frames of adapters"
            num_ranks = self._adapted.pool.place(adapters)
            if num_ranks is None:
                return self._adapted.eager.launch(num_rows, num_readable, plan, adapters)
            size = next(size for size in self._adapted.rank_sizes if size >= num_ranks)
            bucket = replace(bucket, usual=False, num_ranks=size)
        graph, codes = self._graphs[bucket]
        graph.replay()
        return self._device.send(codes[:num_rows])

    def _set_running(self, num_rows: int) -> None:
        self._frame.set_running(num_rows)
        if self._adapted is not None:
            self._adapted.set_running(num_rows)
        self._num_running = num_rows

    def _bucket_for(self, num_rows: int, num_readable: int, plan: SamplingPlan) -> Bucket:
        # A step launched ahead of its sequence's end may be one position too far. Its codes are dropped.
        num_readable = min(num_readable, self._readable_sizes[-1])
        is_usual = plan.max_top_k <= self._frame.usual_top_k and not plan.any_top_p and not plan.any_penalty
        return Bucket(
            next(size for size in self._row_sizes if size >= num_rows),
            next(size for size in self._readable_sizes if size >= num_readable),
            is_usual,
        )

    def _record_all(self) -> Iterator[tuple[Bucket, tuple[Graph, Tensor]]]:
        """Records the largest graph first, so that the smaller ones reuse its memory."""
        kinds = (True, False) if self._frame.usual_top_k else (False,)
        buckets = [
            Bucket(rows, readable, usual)
            for usual in kinds
            for rows in reversed(self._row_sizes)
            for readable in reversed(self._readable_sizes)
        ]
        for num_ranks in self._adapted.rank_sizes if self._adapted else ():
            plain = [bucket for bucket in buckets if not bucket.usual and not bucket.num_ranks]
            buckets += [replace(bucket, num_ranks=num_ranks) for bucket in plain]
        self._set_running(0)
        self._num_running = -1
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
        if bucket.num_ranks:
            adapted = self._adapted
            assert adapted is not None
            return lambda: adapted(bucket).to(torch.int32)
        return lambda: self._frame(bucket.num_rows, bucket.num_readable, bucket.usual).to(torch.int32)


def row_buckets(max_rows: int) -> list[int]:
    """Powers of two, and the largest batch. A padded row costs little, since weights are read once for all rows."""
    return [*(2**n for n in range((max_rows - 1).bit_length())), max_rows]


def readable_buckets(max_positions: int) -> list[int]:
    """Powers of two from 256 on, up to all positions."""
    sizes = []
    size = _MIN_READABLE
    while size < max_positions:
        sizes.append(size)
        size *= 2
    return [*sizes, max_positions]


def num_graphs(max_rows: int, max_positions: int, kinds: int = 1) -> int:
    """How many graphs are recorded, for the memory plan."""
    return len(row_buckets(max_rows)) * len(readable_buckets(max_positions)) * kinds
