"""Runs an engine by hand, step by step, and collects what its sequences say."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serve_app.engine.adapters import AdapterStore
from serve_app.engine.engine import Engine
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prefix_cache import PrefixCache
from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.engine.sequence import Sequence
from serve_app.engine.steps.plain import MakeStep, PlainStep
from serve_app.messages import (
    Accepted,
    Codes,
    ContextSegment,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TokenFrames,
)
from serve_app.model.checkpoint import load_model, open_checkpoint
from serve_app.model.tokenizer import TextTokenizer
from serve_app.settings import EngineSettings


@dataclass(eq=False)
class Stream:
    """What one request got."""

    sequence: Sequence | None = None
    accepted: Accepted | None = None
    error: Exception | None = None
    messages: list[TokenFrames] = field(default_factory=list)

    def take(self, message: Accepted | TokenFrames | Exception) -> None:
        if isinstance(message, Accepted):
            self.accepted = message
        elif isinstance(message, TokenFrames):
            self.messages.append(message)
        else:
            self.error = message

    @property
    def finish(self) -> FinishReason | None:
        return self.messages[-1].finish if self.messages else None

    @property
    def codes(self) -> Codes:
        return Codes(b"".join(m.codes.data for m in self.messages), self.messages[0].codes.num_codebooks)

    @property
    def frames(self) -> list[list[int]]:
        return self.codes.to_array().tolist()


class Harness:
    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        make_step: MakeStep = PlainStep,
        base: str | None = None,
        **settings: Any,
    ) -> None:
        checkpoint = open_checkpoint(str(folder), None, base)
        shape = checkpoint.shape
        self.settings = EngineSettings(**({"max_batch_size": 4} | settings))
        self.model = load_model(checkpoint, torch.device("cpu"), dtype)
        self.tokenizer = TextTokenizer(checkpoint)
        self.limits = ModelLimits(shape.num_codebooks, shape.codebook_size, self.settings.max_positions)
        self.make_step = make_step
        self.adapters = AdapterStore(shape, torch.device("cpu"), dtype, self.settings)
        self.now = 0.0
        self.reset()

    def reset(self) -> None:
        self.prefixes = PrefixCache(torch.device("cpu"), self.settings.prefix_cache_mb << 20, 0)
        self.runner = ModelRunner(
            self.model, self.settings.max_batch_size, self.settings.max_positions, self.prefixes, self.make_step
        )
        self.engine = Engine(self.runner, self.settings, "test", clock=lambda: self.now)

    def add(self, request: GenerationRequest) -> Stream:
        stream = Stream()
        prompt = build_prompt(request, self.tokenizer, self.limits)
        adapter = self.adapters.load(request.adapter) if request.adapter else None
        stream.sequence = Sequence(request, prompt, stream.take, self.now, adapter)
        self.engine.add(stream.sequence)
        return stream

    def finish(self, step_seconds: float = 0.0) -> None:
        """To the end of all, while time passes: with the steps, and where the engine rests."""
        while self.engine.step():
            self.now += step_seconds + self.engine.rest_seconds()

    def run(self, *requests: GenerationRequest) -> list[Stream]:
        streams = [self.add(request) for request in requests]
        self.finish()
        return streams

    def run_staggered(self, requests: Iterable[GenerationRequest], steps_between: int) -> list[Stream]:
        """Each joins a few steps after the one before."""
        streams = []
        for request in requests:
            streams.append(self.add(request))
            for _ in range(steps_between):
                self.engine.step()
        self.finish()
        return streams


def request(
    text: str, *context: ContextSegment, speaker: int = 0, name: str = "r", **sampling: Any
) -> GenerationRequest:
    params = replace(SamplingParams(max_frames=10, min_frames=0), **sampling)
    return GenerationRequest(name, text, speaker, context, params)


def random_segment(shape_codebooks: int, codebook_size: int, num_frames: int, seed: int = 0) -> ContextSegment:
    codes = np.random.default_rng(seed).integers(1, codebook_size, (num_frames, shape_codebooks))
    return ContextSegment("as it was said", 1, Codes.from_array(codes))
