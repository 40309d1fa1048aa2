"""Engines on the GPU around the model `tiny`, with random weights."""

import time
from dataclasses import replace
from typing import Any

import torch

from benchmarks.engine.precision import Precision
from benchmarks.engine.prompts import Prompts
from benchmarks.engine.random_model import config_of, quantized_model
from serve_app.engine.engine import Engine
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prefix_cache import PrefixCache
from serve_app.engine.runner import EngineParts
from serve_app.engine.sequence import Sequence
from serve_app.engine.steps.choice import StepName, step_maker
from serve_app.messages import Accepted, GenerationRequest, ModelInfo, SamplingParams, TokenFrames
from serve_app.settings import EngineSettings

DEVICE = torch.device("cuda")
FLOAT32 = Precision("fp32", torch.float32)
ROWS, POSITIONS = 6, 300
CACHE_BYTES = 1 << 20

Messages = list[Accepted | TokenFrames | Exception]


class GpuEngine:
    def __init__(self, step: StepName, precision: Precision = FLOAT32, dependent: bool = False) -> None:
        self.model = quantized_model("tiny", DEVICE, precision)
        self.prompts = Prompts(config_of("tiny"))
        prefixes = PrefixCache(self.model.device, CACHE_BYTES, CACHE_BYTES)
        self.runner = ModelRunner(self.model, ROWS, POSITIONS, prefixes, step_maker(step, dependent=dependent))
        self.settings = EngineSettings(max_batch_size=ROWS, max_waiting=1000, max_step_ms=0)
        self.engine = Engine(self.runner, self.settings, "test")

    def add(self, request: GenerationRequest) -> Sequence:
        heard: Messages = []
        sequence = Sequence(request, self.prompts.built(request), heard.append, time.monotonic())
        self.engine.add(sequence)
        return sequence

    def frames(self, *requests: GenerationRequest) -> list[list[list[int]]]:
        """Of each, [frames, codebooks]."""
        sequences = [self.add(request) for request in requests]
        while self.engine.step():
            pass
        return [sequence.codes.to_array().tolist() for sequence in sequences]

    @property
    def parts(self) -> EngineParts:
        limits = self.prompts.limits
        info = ModelInfo(
            model="tiny",
            weights="random",
            num_codebooks=limits.num_codebooks,
            codebook_size=limits.codebook_size,
            max_positions=POSITIONS,
            device="cuda",
            dtype="float32",
            max_batch_size=ROWS,
        )
        return EngineParts(self.runner, self.prompts.tokenizer, info)


def asked(text: str, num_frames: int, **sampling: Any) -> GenerationRequest:
    """For exactly so many frames."""
    params = replace(SamplingParams(min_frames=num_frames, max_frames=num_frames), **sampling)
    return GenerationRequest(text, text, 0, sampling=params)


def greedy(num_frames: int) -> list[GenerationRequest]:
    """More than there are rows, so that they join and leave."""
    return [asked(f"Number {n} of some.", num_frames + n % 3, greedy=True) for n in range(ROWS + 3)]


def share_of_equal_codes(some: list[list[int]], others: list[list[int]]) -> float:
    """Of two lists of frames of the same size."""
    pairs = [pair for frame, other in zip(some, others, strict=True) for pair in zip(frame, other, strict=True)]
    return sum(one == other for one, other in pairs) / len(pairs)
