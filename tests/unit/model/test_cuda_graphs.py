"""Recording graphs, by a CUDA that only notes what is asked of it."""

import torch

from serve_app.model.cuda_graphs import GraphRecorder
from tests.support.fake_cuda import FakeCuda


def test_all_graphs_are_recorded_on_one_stream() -> None:
    cuda = FakeCuda()
    recorder = GraphRecorder(torch.device("cuda"), cuda)
    for _ in range(3):
        recorder.record(lambda: None)
    (stream,) = cuda.made
    assert cuda.warmed_up == cuda.captured == [stream] * 3
