"""A CUDA graph's rules on a CPU: operations are recorded once, with their memory, and then only they are replayed.

Whatever the recorded code took from the host is frozen, as in a real graph; asking the device for a value is an error.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from serve_app.engine.runner import DrawnFrames, PendingFrames

_ASKS_THE_DEVICE = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.item.default"}


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert str(func) not in _ASKS_THE_DEVICE, f"{func} makes the host wait inside a frame"
        result = func(*args, **(kwargs or {}))
        self._operations.append((func, args, kwargs or {}, _tensors(result)))
        return result

    def replay(self) -> None:
        with torch.inference_mode():
            for func, args, kwargs, results in self._operations:
                for recorded, new in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                    if recorded.data_ptr() != new.data_ptr():
                        recorded.copy_(new)

    def __len__(self) -> int:
        return len(self._operations)


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


class TapeDevice:
    """Satisfies `graphed_step.Device`."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def record(self, work: Callable[[], Tensor]) -> tuple[Tape, Tensor]:
        work()
        tape = Tape()
        with tape:
            codes = work()
        self.tapes.append(tape)
        return tape, codes

    def send(self, codes: Tensor) -> PendingFrames:
        return DrawnFrames(codes.numpy().astype(np.int64))

    def used_bytes(self) -> int:
        return 0
