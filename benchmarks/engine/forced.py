"""What `quantization_error` forces along and how: codes that a model speaks, and quantized models that answer sooner.

Shapes: F frames, K codebooks.
"""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from serve_app.engine.engine import Engine
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prompt import Prompt
from serve_app.engine.sequence import Sequence
from serve_app.engine.steps.choice import StepName, step_maker
from serve_app.messages import Accepted, GenerationRequest, SamplingParams, TokenFrames
from serve_app.model.csm import Csm
from serve_app.model.matrix import Matrix
from serve_app.settings import EngineSettings


def spoken(model: Csm, prompts: list[Prompt], num_frames: int, step: StepName) -> list[NDArray[np.int64]]:
    """Codes [F, K] that `model` draws after each prompt, with the usual sampling."""
    max_positions = max(prompt.num_positions for prompt in prompts) + num_frames
    settings = EngineSettings(max_batch_size=len(prompts), max_waiting=len(prompts), max_step_ms=0)
    runner = ModelRunner(model, len(prompts), max_positions, make_step=step_maker(step))
    engine = Engine(runner, settings, "benchmark")
    sequences = []
    for seed, prompt in enumerate(prompts):
        sampling = SamplingParams(seed=seed, min_frames=num_frames, max_frames=num_frames)
        request = GenerationRequest(str(seed), "", 0, sampling=sampling)
        kept = replace(prompt, max_frames=num_frames)
        sequences.append(Sequence(request, kept, _ignore, time.monotonic()))
        engine.add(sequences[-1])
    while engine.step():
        pass
    return [sequence.codes.to_array().astype(np.int64) for sequence in sequences]


def widen(model: Csm) -> None:
    """Hold quantized values in the model's own type: the answers stay, and come sooner.

    8 bits are exact in it. What 4 bits stand for is rounded to it in any product.
    """

    def widened(matrix: Matrix) -> Matrix:
        if isinstance(matrix, Tensor):
            return matrix
        return matrix.dense(model.dtype) if matrix.is_int4 else replace(matrix, values=matrix.values.to(model.dtype))

    model.change_matrices(widened)


def _ignore(message: Accepted | TokenFrames | Exception) -> None:
    pass
