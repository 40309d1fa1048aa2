"""Records CUDA graphs and copies their results to the host, on the stream of the thread that calls."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.runner import PendingFrames
from serve_app.engine.steps.graphs import Graph

_HOST_BUFFERS = 4
"""More than the decode steps in flight, so that no buffer is written while it is read."""


@dataclass(frozen=True, slots=True)
class _CopiedFrames:
    host: Tensor
    copied: torch.cuda.Event

    def codes(self) -> NDArray[np.int64]:
        self.copied.synchronize()
        return self.host.numpy().astype(np.int64)


class CudaDevice:
    """Satisfies `graphs.Device`. All graphs share one memory pool, because only one runs at a time."""

    def __init__(self, device: torch.device, max_rows: int, num_codebooks: int) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        # One for all graphs, because cuBLAS keeps a workspace for every stream that it has met.
        self._stream = torch.cuda.Stream(device)
        # Pinned, because only then the copy runs while the host continues.
        self._host = [
            torch.empty(max_rows, num_codebooks, dtype=torch.int32, pin_memory=True) for _ in range(_HOST_BUFFERS)
        ]
        self._copied = [torch.cuda.Event() for _ in range(_HOST_BUFFERS)]
        self._num_sent = 0

    def record(self, work: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        """Runs `work` twice before it records, because libraries choose and compile kernels on the first run."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(2):
                work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of this process may allocate meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = work()
        return graph, result

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
