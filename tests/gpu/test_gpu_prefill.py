"""Graphs of prefill write the keys and values of the plain prefill, whatever prompts share a pass."""

import numpy as np
import pytest
import torch

from benchmarks.engine.random_model import random_model
from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.choice import step_maker
from serve_app.engine.steps.prefill import PlainPrefill, PromptChunks
from serve_app.model.kv_views import TokenRange
from tests.support.gpu_engine import DEVICE

ROWS, POSITIONS = 4, 400


@pytest.mark.parametrize("lengths", [(1,), (20, 1, 43), (64, 64, 3), (200, 90)], ids=str)
@torch.inference_mode()
def test_passes_of_mixed_lengths(lengths: tuple[int, ...]) -> None:
    """In two passes, so that the second reads what the first has written."""
    model, random = random_model("tiny", DEVICE, torch.float32), np.random.default_rng(0)
    plain, graphed = (KvCache(model.shape, ROWS, POSITIONS, DEVICE, torch.float32) for _ in range(2))
    step = step_maker("fused")(model, graphed, RowState(model.shape, ROWS, DEVICE, torch.float32))
    for start in (0, max(lengths)):
        ranges = [TokenRange(ROWS - 1 - row, start, length) for row, length in enumerate(lengths)]
        text_ids = random.integers(-1, 256, sum(lengths))
        frames = random.integers(0, model.shape.codebook_size, (sum(lengths), model.shape.num_codebooks))
        chunks = PromptChunks(text_ids, frames, ranges, [None] * len(ranges))
        PlainPrefill(model, plain).read(chunks)
        step.prefill.read(chunks)
    found, expected = (kv.backbone[..., :POSITIONS, :] for kv in (graphed, plain))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
