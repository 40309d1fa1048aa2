"""Recording CUDA graphs at start, with a device that only notes what is asked of it."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from serve_app.engine.runner import DrawnFrames, PendingFrames
from serve_app.engine.steps.graphs import Graph, GraphedStep
from serve_app.engine.steps.prefill import PromptChunks


class EmptyFrame:
    usual_top_k = 0

    def __call__(self, num_rows: int, num_readable: int, usual: bool) -> Tensor:
        return torch.zeros(num_rows, 2, dtype=torch.int64)

    def set_running(self, num_rows: int) -> None:
        pass


class EmptyPrefill:
    def read(self, chunks: PromptChunks) -> None:
        pass


class Replayed:
    def replay(self) -> None:
        pass


class NotingDevice:
    """Notes whether garbage could be collected during each capture."""

    def __init__(self, fails: bool = False) -> None:
        self.collecting: list[bool] = []
        self._fails = fails

    def record(self, work: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        self.collecting.append(gc.isenabled())
        if self._fails:
            raise RuntimeError("capture failed")
        return Replayed(), work()

    def send(self, codes: Tensor) -> PendingFrames:
        return DrawnFrames(codes.numpy())

    def used_bytes(self) -> int:
        return 0


def test_no_garbage_is_collected_during_a_capture() -> None:
    assert gc.isenabled()
    device = NotingDevice()
    GraphedStep(EmptyFrame(), EmptyPrefill(), device, 4, 300)
    assert device.collecting == [False] * 6
    assert gc.isenabled()


def test_garbage_is_collected_again_after_a_failed_capture() -> None:
    with pytest.raises(RuntimeError, match="capture failed"):
        GraphedStep(EmptyFrame(), EmptyPrefill(), NotingDevice(fails=True), 4, 300)
    assert gc.isenabled()
