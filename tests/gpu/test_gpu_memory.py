"""No growth of the card's memory, whoever comes and leaves."""

import gc
import random

import pytest
import torch

from serve_app.engine.sequence import Sequence
from serve_app.engine.steps.choice import StepName
from tests.support.gpu_engine import CACHE_BYTES, GpuEngine, asked

REQUESTS, ABORTED, WARM_UP = 300, 0.3, 100


@pytest.mark.parametrize("step", ["plain", "graphs", "fused"])
def test_no_growth_over_many_requests_with_aborts(step: StepName) -> None:
    engine, chance = GpuEngine(step), random.Random(0)
    voices = [engine.prompts.voice(20, seed) for seed in range(40)]
    running: list[Sequence] = []
    allocated_after_warm_up = 0
    for number in range(REQUESTS):
        plain = asked("One of many.", chance.randint(1, 8), seed=number)
        request = type(plain)(f"{number}", plain.text, 0, (chance.choice(voices),), plain.sampling)
        running.append(engine.add(request))
        for _ in range(chance.randint(0, 3)):
            engine.engine.step()
        if chance.random() < ABORTED:
            engine.engine.abort(running.pop(chance.randrange(len(running))))
        if number == WARM_UP:
            allocated_after_warm_up = _allocated()
    while engine.engine.step():
        pass
    assert engine.engine.stats().running == 0
    # The prefix cache may have filled up meanwhile, to its limit and no further.
    assert _allocated() <= allocated_after_warm_up + CACHE_BYTES


def _allocated() -> int:
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()
