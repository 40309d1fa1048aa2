"""Counts what a card would be given to do, where none is: tensors are on the meta device, and nothing is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.jit import JITFunction


class Launches(TorchDispatchMode):
    """The names of our kernels, and of torch's operations but for those that only make or view a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and "empty" not in func.__name__:
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_launches() -> Iterator[list[str]]:
    """What is launched within, in order."""
    with pytest.MonkeyPatch.context() as patch, Launches() as launches:
        patch.setattr(JITFunction, "run", lambda kernel, *args, **options: launches.names.append(kernel.__name__))
        yield launches.names
