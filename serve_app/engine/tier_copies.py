"""Copies of keys and values between the tiers of the prefix cache."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


class TierCopies(Protocol):
    def to_host(self, kv: Tensor) -> Tensor: ...

    def to_device(self, kv: Tensor) -> Tensor: ...


class PlainCopies:
    """Each copy is there when its call returns."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def to_host(self, kv: Tensor) -> Tensor:
        return kv.to("cpu")

    def to_device(self, kv: Tensor) -> Tensor:
        return kv.to(self._device)


def _pinned(kv: Tensor) -> Tensor:
    return torch.empty(kv.shape, dtype=kv.dtype, pin_memory=True)


class PinnedCopies:
    """Copies that the engine's thread does not wait for: in pinned memory, and to the host beside the next steps.

    13 MB from pageable memory take 4 to 8 ms, and the step that was launched before them has to end first.
    """

    def __init__(
        self, device: torch.device, cuda: Any = torch.cuda, empty_on_host: Callable[[Tensor], Tensor] = _pinned
    ) -> None:
        self._device = device
        self._cuda = cuda
        self._empty_on_host = empty_on_host
        self._side = cuda.Stream(device)

    def to_host(self, kv: Tensor) -> Tensor:
        host = self._empty_on_host(kv)
        self._side.wait_stream(self._cuda.current_stream(self._device))
        with self._cuda.stream(self._side):
            host.copy_(kv, non_blocking=True)
        # The cache lets go of it now, and its memory would be given to the next tensor.
        kv.record_stream(self._side)
        return host

    def to_device(self, kv: Tensor) -> Tensor:
        # What is asked for may be on its way to the host still.
        self._cuda.current_stream(self._device).wait_stream(self._side)
        return kv.to(self._device, non_blocking=True)


def tier_copies(device: torch.device) -> TierCopies:
    return PinnedCopies(device) if device.type == "cuda" else PlainCopies(device)
