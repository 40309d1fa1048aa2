"""Steps from CUDA graphs draw what the plain step draws."""

import logging

import pytest
import torch

from benchmarks.engine.precision import PRECISIONS, Precision
from serve_app.engine.steps.choice import StepName
from serve_app.engine.steps.graphs import num_graphs
from serve_app.model.matrix import Quantization
from tests.support.gpu_engine import POSITIONS, ROWS, GpuEngine, asked, greedy, share_of_equal_codes

GRAPHED: list[StepName] = ["graphs", "fused"]
_SUMS_DIFFER = 0.9
"""Of a first frame's codes at least: another order of sums may turn a close call, and what follows it."""


@pytest.fixture(scope="module")
def plain_frames() -> list[list[list[int]]]:
    return GpuEngine("plain").frames(*greedy(8))


def test_graphs_of_torchs_operations_draw_the_same_codes(plain_frames: list[list[list[int]]]) -> None:
    assert GpuEngine("graphs").frames(*greedy(8)) == plain_frames


def test_fused_graphs_draw_nearly_the_same_codes(plain_frames: list[list[list[int]]]) -> None:
    fused = GpuEngine("fused").frames(*greedy(8))
    assert [len(frames) for frames in fused] == [len(frames) for frames in plain_frames]
    first, expected = ([frames[0] for frames in stream] for stream in (fused, plain_frames))
    assert share_of_equal_codes(first, expected) >= _SUMS_DIFFER


def test_kernels_that_start_early_draw_the_same_codes() -> None:
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("this card launches no kernel before the one before it has ended (compute capability 9.0)")
    assert GpuEngine("fused", dependent=True).frames(*greedy(8)) == GpuEngine("fused").frames(*greedy(8))


@pytest.mark.parametrize("step", GRAPHED)
def test_a_context_beyond_the_first_bucket_of_positions(step: StepName) -> None:
    first = []
    for name in ("plain", step):
        engine = GpuEngine(name)
        voice = engine.prompts.voice(200, seed=1)
        request = asked("After a long context, as long as there is room.", 9, greedy=True)
        frames = engine.frames(*(type(request)(f"{n}", request.text, 0, (voice,), request.sampling) for n in range(3)))
        first.append([stream[0] for stream in frames])
    assert share_of_equal_codes(*first) >= _SUMS_DIFFER


@pytest.mark.parametrize("step", GRAPHED)
def test_a_seed_draws_the_same_again(step: StepName) -> None:
    engine = GpuEngine(step)
    requests = [asked(f"Number {n}.", 6, seed=n, temperature=1.1) for n in range(4)]
    once = engine.frames(*requests)
    assert engine.frames(*requests) == once
    others = engine.frames(*(asked(f"Number {n}.", 6, seed=100 + n, temperature=1.1) for n in range(4)))
    assert others != once


@pytest.mark.parametrize("step", GRAPHED)
def test_everything_a_request_may_ask_for(step: StepName) -> None:
    engine = GpuEngine(step)
    wishes = [
        {"top_p": 0.8, "seed": 1},
        {"repetition_penalty": 1.4, "seed": 2},
        {"top_k": 1, "seed": 3},
        {"greedy": True},
    ]
    for frames in engine.frames(*(asked(f"Number {n}.", 5, **wish) for n, wish in enumerate(wishes))):
        assert len(frames) == 5
        assert max(max(frame) for frame in frames) < engine.prompts.limits.codebook_size


@pytest.mark.parametrize("quantization", ["int8", "fp8"])
def test_quantized_steps_draw_nearly_the_same_codes(quantization: Quantization) -> None:
    if quantization == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this card has no fp8 (compute capability 8.9)")
    precision = Precision(quantization, torch.float32, quantization)
    fused = GpuEngine("fused", precision).frames(*greedy(1)[:ROWS])
    plain = GpuEngine("plain", precision).frames(*greedy(1)[:ROWS])
    assert share_of_equal_codes([stream[0] for stream in fused], [stream[0] for stream in plain]) >= _SUMS_DIFFER


@pytest.mark.parametrize("step", GRAPHED)
def test_what_recording_costs_is_said(step: StepName, caplog: pytest.LogCaptureFixture) -> None:
    before = torch.cuda.memory_reserved()
    with caplog.at_level(logging.INFO, "serve_app.engine.steps.graphs"):
        GpuEngine(step, PRECISIONS["bf16"])
    kinds = 2 if step == "graphs" else 1
    last = caplog.messages[-1]
    assert last.startswith(f"recorded {num_graphs(ROWS, POSITIONS, kinds)} CUDA graphs in ")
    assert last.endswith(" MB")
    assert torch.cuda.memory_reserved() - before < 2 << 30
