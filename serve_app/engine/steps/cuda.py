"""Recording graphs and copying to the host on CUDA. One thread does both, on that thread's stream."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.parts import PendingFrames
from serve_app.engine.steps.graphs import Graph

_HOST_BUFFERS = 4
"""More than steps in flight."""


@dataclass(frozen=True, slots=True)
class _CopiedFrames:
    host: Tensor
    copied: torch.cuda.Event

    def codes(self) -> NDArray[np.int64]:
        self.copied.synchronize()
        return self.host.numpy().astype(np.int64)


class CudaDevice:
    """Satisfies `graphed_step.Device`. All graphs share one memory pool: only one runs at a time."""

    def __init__(self, device: torch.device, max_rows: int, num_codebooks: int) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        # Pinned: only then does the copy leave the host free to go on.
        self._host = [
            torch.empty(max_rows, num_codebooks, dtype=torch.int32, pin_memory=True) for _ in range(_HOST_BUFFERS)
        ]
        self._copied = [torch.cuda.Event() for _ in range(_HOST_BUFFERS)]
        self._num_sent = 0

    def record(self, work: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        """Twice before it is recorded: libraries choose and compile their kernels on the first run."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(2):
                work()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of this process may allocate meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            codes = work().to(torch.int32)
        return graph, codes

    def send(self, codes: Tensor) -> PendingFrames:
        turn = self._num_sent % _HOST_BUFFERS
        self._num_sent += 1
        host = self._host[turn][: len(codes)]
        host.copy_(codes, non_blocking=True)
        self._copied[turn].record()
        return _CopiedFrames(host, self._copied[turn])

    def used_bytes(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free
