"""CUDA's streams, graphs and events where there are none: what is asked of them is noted."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch


class FakeStream:
    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device

    def wait_stream(self, other: "FakeStream") -> None:
        pass


class FakeEvent:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def record(self) -> None:
        self.asked.append("record")

    def synchronize(self) -> None:
        self.asked.append("synchronize")


class FakeCuda:
    """The part of `torch.cuda` that recording a graph and waiting for its results need."""

    CUDAGraph = SimpleNamespace

    def __init__(self) -> None:
        self.made: list[FakeStream] = []
        self.warmed_up: list[FakeStream] = []
        self.captured: list[FakeStream] = []
        self.events: list[FakeEvent] = []

    def Event(self) -> FakeEvent:
        self.events.append(FakeEvent())
        return self.events[-1]

    def Stream(self, device: torch.device) -> FakeStream:
        self.made.append(FakeStream(device))
        return self.made[-1]

    def graph_pool_handle(self) -> int:
        return 1

    def current_stream(self, device: torch.device) -> FakeStream:
        return FakeStream()

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        self.warmed_up.append(stream)
        yield

    @contextmanager
    def graph(self, graph: object, pool: int, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        self.captured.append(stream)
        yield
