"""Prefill by kernels writes the keys and values that the plain prefill writes, whatever prompts share its passes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.steps import graphed_prefill
from serve_app.engine.steps.graphed_prefill import GraphedPrefill, prefill_tables
from serve_app.engine.steps.prefill import PlainPrefill, PromptChunks
from serve_app.model.checkpoint import load_model, open_checkpoint
from serve_app.model.create import create_checkpoint
from serve_app.model.csm import Csm
from serve_app.model.kernels.prefill import FusedPrefill
from serve_app.model.kv_views import TokenRange

CPU = torch.device("cpu")
ROWS, POSITIONS = 4, 60
PASSES = [
    [TokenRange(2, 0, 3), TokenRange(0, 0, 19), TokenRange(3, 0, 1)],
    [TokenRange(3, 1, 6), TokenRange(2, 3, 16), TokenRange(0, 19, 1), TokenRange(1, 0, 14)],
    [TokenRange(1, 14, 5)],
]
"""In the second pass no range begins where a block of tokens does, and 37 tokens are cut after the 32nd."""


class Rerun:
    """A device whose graphs compute anew what they recorded: the interpreter's kernels leave nothing on a tape."""

    def record(self, work: Callable[[], Tensor]) -> tuple["Rerun", Tensor]:
        self = Rerun()
        self.replay = work
        return self, work()


@pytest.fixture
def model(tmp_path: Path) -> Csm:
    overrides = {"num_codebooks": 3, "codec_config": {"codebook_size": 32}}
    create_checkpoint(tmp_path / "checkpoint", "tiny", seed=3, overrides=overrides)
    return load_model(open_checkpoint(str(tmp_path / "checkpoint"), None), CPU, torch.float32)


def chunks(ranges: list[TokenRange], model: Csm) -> PromptChunks:
    """Of text and frames by turns."""
    random, num_tokens = np.random.default_rng(len(ranges)), sum(tokens.num_tokens for tokens in ranges)
    text_ids = np.where(np.arange(num_tokens) % 3 == 0, -1, random.integers(0, 256, num_tokens))
    frames = random.integers(0, model.shape.codebook_size, (num_tokens, model.shape.num_codebooks))
    return PromptChunks(text_ids, frames, ranges, [None] * len(ranges))


@torch.inference_mode()
@pytest.mark.parametrize("quantized", [False, True])
def test_passes_of_mixed_lengths(model: Csm, monkeypatch: pytest.MonkeyPatch, quantized: bool) -> None:
    monkeypatch.setattr(graphed_prefill, "PREFILL_BUCKETS", (8, 32))
    if quantized:
        model.quantize("int8")
    plain, fused = (KvCache(model.shape, ROWS, POSITIONS, CPU, torch.float32) for _ in range(2))
    tables = prefill_tables(model.shape.num_codebooks, CPU)
    by_graphs = GraphedPrefill(
        FusedPrefill(model, fused.backbone), Rerun(), tables, POSITIONS, PlainPrefill(model, fused)
    )
    for ranges in PASSES:
        PlainPrefill(model, plain).read(chunks(ranges, model))
        by_graphs.read(chunks(ranges, model))
    torch.testing.assert_close(
        fused.backbone[..., :POSITIONS, :], plain.backbone[..., :POSITIONS, :], rtol=1e-4, atol=1e-4
    )
    assert (fused.backbone[..., POSITIONS, :] != 0).any(), "padding went nowhere"
