"""Many listeners on one engine, in one process: `TokenService` on its thread, a task for each stream."""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from benchmarks.engine.prompts import Prompts
from serve_app.engine.model_runner import ModelRunner
from serve_app.engine.prefix_cache import PrefixCache
from serve_app.engine.runner import EngineParts, PendingFrames
from serve_app.engine.sequence import Sequence
from serve_app.engine.service import TokenService
from serve_app.engine.steps.choice import StepName, step_maker
from serve_app.messages import GenerationRequest, ModelInfo, TokenFrames
from serve_app.model.csm import Csm
from serve_app.settings import EngineSettings

_CACHE_BYTES = 1 << 28


class TimedRunner(ModelRunner):
    """Remembers when each step was launched, in seconds, and for how many."""

    def __init__(self, model: Csm, slots: int, max_positions: int, step: StepName) -> None:
        super().__init__(
            model, slots, max_positions, PrefixCache(model.device, _CACHE_BYTES, 0), make_step=step_maker(step)
        )
        self.launches: list[tuple[float, int]] = []

    def launch(self, sequences: list[Sequence]) -> PendingFrames:
        self.launches.append((time.perf_counter(), len(sequences)))
        return super().launch(sequences)


@contextmanager
def service_of(
    model: Csm, prompts: Prompts, step: StepName, slots: int, max_positions: int
) -> Iterator[tuple[TokenService, TimedRunner]]:
    """One at a time: what the one before held is given back first."""
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    runner = TimedRunner(model, slots, max_positions, step)
    limits = prompts.limits
    info = ModelInfo(
        model="benchmark",
        weights="random",
        num_codebooks=limits.num_codebooks,
        codebook_size=limits.codebook_size,
        max_positions=max_positions,
        device=model.device.type,
        dtype=str(model.dtype).removeprefix("torch."),
        max_batch_size=slots,
    )
    settings = EngineSettings(max_batch_size=slots, max_waiting=slots, max_step_ms=0)
    service = TokenService(EngineParts(runner, prompts.tokenizer, info), settings)
    try:
        yield service, runner
    finally:
        service.stop()


async def first_frame_ms(service: TokenService, request: GenerationRequest) -> float:
    """From asking to the first message with frames; the stream is heard to its end."""
    began = time.perf_counter()
    first = 0.0
    # Somebody listens: other answers' first message comes later.
    async for message in service.generate(replace(request, paced=True)):
        if isinstance(message, TokenFrames) and not first:
            first = time.perf_counter()
    return (first - began) * 1000


async def listen(service: TokenService, request: GenerationRequest) -> int:
    """Hear a stream to its end; how many messages it took."""
    return sum([isinstance(message, TokenFrames) async for message in service.generate(request)])


async def listen_all(service: TokenService, requests: list[GenerationRequest]) -> int:
    return sum(await asyncio.gather(*(listen(service, request) for request in requests)))
