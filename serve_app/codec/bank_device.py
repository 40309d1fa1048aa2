"""What the banks need of the device that they are on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from serve_app.model.cuda_graphs import GraphRecorder

Work = Callable[[], None]


class Graph(Protocol):
    def replay(self) -> object: ...


class BankDevice(Protocol):
    def host_like(self, tensor: Tensor) -> Tensor:
        """Memory of the host that copies from and to `tensor` may use while the host goes on."""
        ...

    def record(self, work: Work) -> Graph:
        """Run `work` to warm up, then record it."""
        ...

    def wait(self) -> None:
        """Until every copy that was begun is done."""
        ...


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Satisfies `Graph` by doing the work anew."""

    replay: Work


class CpuBankDevice:
    def host_like(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor)

    def record(self, work: Work) -> Graph:
        work()
        return Unrecorded(work)

    def wait(self) -> None:
        pass


class CudaBankDevice:
    """On the stream of the thread that calls."""

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._recorder = GraphRecorder(device, cuda)
        self._done = cuda.Event()

    def host_like(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="cpu", pin_memory=True)

    def record(self, work: Work) -> Graph:
        graph, _ = self._recorder.record(work)
        return graph

    def wait(self) -> None:
        self._done.record()
        self._done.synchronize()


def bank_device(device: torch.device) -> BankDevice:
    return CudaBankDevice(device) if device.type == "cuda" else CpuBankDevice()
