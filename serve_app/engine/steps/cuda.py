"""Records CUDA graphs and copies their results to the host, on the stream of the thread that calls."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.runner import PendingFrames
from serve_app.engine.steps.graphs import Graph
from serve_app.model.cuda_graphs import GraphRecorder

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
    """Satisfies `graphs.Device`."""

    def __init__(self, device: torch.device, max_rows: int, num_codebooks: int) -> None:
        self._device = device
        self._recorder = GraphRecorder(device)
        # Pinned, because only then the copy runs while the host continues.
        self._host = [
            torch.empty(max_rows, num_codebooks, dtype=torch.int32, pin_memory=True) for _ in range(_HOST_BUFFERS)
        ]
        self._copied = [torch.cuda.Event() for _ in range(_HOST_BUFFERS)]
        self._num_sent = 0

    def record(self, work: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        return self._recorder.record(work)

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
