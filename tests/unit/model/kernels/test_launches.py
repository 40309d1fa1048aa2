"""How many launches a frame and a prefill pass of csm-1b are: each costs a card more than a microsecond."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from serve_app.engine.kv_cache import KvCache
from serve_app.engine.row_state import RowState
from serve_app.engine.steps.graphed_prefill import GraphedPrefill, prefill_tables, tokens_of
from serve_app.engine.steps.prefill import PlainPrefill, PromptChunks
from serve_app.model.csm import Csm
from serve_app.model.kernels.launch import dependent_launches, launch
from serve_app.model.kv_views import TokenRange
from serve_app.model.presets import preset_config
from serve_app.model.shape import CsmShape

pytest.importorskip("triton.backends.nvidia")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels are not launched", allow_module_level=True)

from tests.support.launches import counted_launches

NOWHERE = torch.device("meta")


@pytest.fixture(scope="module")
def model() -> Csm:
    return Csm(CsmShape.from_config(preset_config("csm-1b")), NOWHERE, torch.bfloat16)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The tensors that were pinned, which only CUDA can do."""
    tensors: list[Tensor] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    return tensors


class NoGraphs:
    """A device whose graphs do nothing."""

    def record(self, work: Callable[[], Tensor]) -> tuple["NoGraphs", Tensor]:
        return self, torch.empty(0)

    def replay(self) -> None:
        pass


def chunks(model: Csm, *lengths: int) -> PromptChunks:
    ranges = [TokenRange(row, 0, length) for row, length in enumerate(lengths)]
    zeros = np.zeros((sum(lengths), model.shape.num_codebooks), np.int64)
    return PromptChunks(zeros[:, 0], zeros, ranges, [None] * len(ranges))


def launches_of_a_frame(model: Csm, num_rows: int) -> list[str]:
    from serve_app.engine.steps.fused import FusedStaticFrame

    kv = KvCache(model.shape, num_rows, 512, NOWHERE, torch.bfloat16)
    frame = FusedStaticFrame(model, kv, RowState(model.shape, num_rows, NOWHERE, torch.bfloat16))
    with torch.inference_mode(), counted_launches() as names:
        frame(num_rows, 512, False)
    return names


LAYERS, PASSES = 4, 31
"""Of the depth decoder. Its first pass has two tokens a row, so it takes the kernels of twice as many rows."""


@pytest.mark.parametrize(
    ("num_rows", "a_depth_layer", "a_first_layer", "a_backbone_layer"),
    [(1, 4, 4, 6), (4, 4, 4, 6), (8, 4, 5, 6), (16, 5, 6, 7), (32, 6, 6, 7), (64, 6, 7, 6), (128, 7, 7, 7)],
)
def test_launches_of_a_frame(
    model: Csm, num_rows: int, a_depth_layer: int, a_first_layer: int, a_backbone_layer: int
) -> None:
    """A head and a draw a pass; the first code, and what a frame changes. Attention shares out positions up to 32
    rows, in two kernels."""
    names = launches_of_a_frame(model, num_rows)
    depth = LAYERS * ((PASSES - 1) * a_depth_layer + a_first_layer) + 2 * PASSES
    assert len(names) == depth + 16 * a_backbone_layer + 8
    assert names.count("_normed_qkv") == LAYERS * PASSES + 16
    assert "copy_.default" not in names


@torch.inference_mode()
def test_a_prefill_pass_is_six_or_seven_kernels_a_layer(model: Csm) -> None:
    from serve_app.model.kernels.prefill import FusedPrefill

    kv = KvCache(model.shape, 12, 256, NOWHERE, torch.bfloat16)
    launches = {}
    for num_tokens, table in prefill_tables(model.shape.num_codebooks, NOWHERE).items():
        with counted_launches() as names:
            FusedPrefill(model, kv.backbone)(tokens_of(table))
        launches[num_tokens] = len(names)
    # And the embedding. Up to 64 tokens one kernel norms, multiplies and gates, and one adds up what `down` leaves.
    assert launches == {64: 6 * 16 + 1, 128: 7 * 16 + 1, 256: 7 * 16 + 1}


@torch.inference_mode()
def test_a_pass_outside_its_graph_is_one_copy_which_nobody_waits_for(model: Csm, pinned: list[Tensor]) -> None:
    tables = prefill_tables(model.shape.num_codebooks, NOWHERE)
    kv = KvCache(model.shape, 12, 256, NOWHERE, torch.bfloat16)
    prefill = GraphedPrefill(lambda tokens: tokens.text_ids, NoGraphs(), tables, 256, PlainPrefill(model, kv))
    twelve = chunks(model, *[5] * 12)
    with counted_launches() as names:
        prefill.read(twelve)
    assert names == ["copy_.default"]
    assert [tuple(tensor.shape) for tensor in pinned] == [(3 + 32, 64)]
    with counted_launches() as plain:
        PlainPrefill(model, kv).read(twelve)
    assert len(plain) > 500, "what it saves"


class Kernel:
    """Notes the options of its launches."""

    def __init__(self) -> None:
        self.launched: list[dict[str, Any]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *args, **options: self.launched.append(options)


def test_kernels_wait_for_each_other_unless_they_are_launched_as_dependent() -> None:
    kernel = Kernel()
    launch(kernel, (1,), num_warps=4)
    with pytest.raises(RuntimeError), dependent_launches(True):
        launch(kernel, (1,), num_warps=4)
        raise RuntimeError
    launch(kernel, (1,), num_warps=4)
    waiting = {"num_warps": 4, "DEPENDENT": False}
    assert kernel.launched == [waiting, {"num_warps": 4, "DEPENDENT": True, "launch_pdl": True}, waiting]
