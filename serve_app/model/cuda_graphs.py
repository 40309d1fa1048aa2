"""Records CUDA graphs: work that is launched kernel by kernel once, and as a whole from then on."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

_Result = TypeVar("_Result")


class GraphRecorder:
    """All graphs share one memory pool, because only one runs at a time."""

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device = device
        self._cuda = cuda
        self._pool = cuda.graph_pool_handle()
        # One for all graphs, because cuBLAS keeps a workspace for every stream that it has met.
        self._stream = cuda.Stream(device)

    def record(self, work: Callable[[], _Result]) -> tuple[torch.cuda.CUDAGraph, _Result]:
        """Runs `work` twice before it records, because libraries choose and compile kernels on the first run.

        Each replay leaves its result where the returned one is.
        """
        self._stream.wait_stream(self._cuda.current_stream(self._device))
        with self._cuda.stream(self._stream):
            for _ in range(2):
                work()
        self._cuda.current_stream(self._device).wait_stream(self._stream)
        graph = self._cuda.CUDAGraph()
        # Other threads of this process may allocate meanwhile.
        with self._cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = work()
        return graph, result


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """A collection during a capture could destroy an older graph, and CUDA would invalidate the one being recorded."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
