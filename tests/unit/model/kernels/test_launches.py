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


@pytest.mark.parametrize("num_rows", [1, 8])
def test_a_frame_of_few_rows_is_four_kernels_a_depth_layer(model: Csm, num_rows: int) -> None:
    names = launches_of_a_frame(model, num_rows)
    depth_layers, backbone_layers, passes = 31 * 4, 16, 31
    # A head and a draw a pass; two kernels of attention a backbone layer; the first code, and what a frame changes.
    assert len(names) == 4 * depth_layers + 2 * passes + 6 * backbone_layers + 8 == 662
    assert names.count("_attend_and_project") == depth_layers
    assert names.count("_normed_qkv") == depth_layers + backbone_layers
    assert names.count("_add_rms_norm") == 1


def test_more_rows_cost_more_kernels_and_no_copy(model: Csm) -> None:
    assert len(launches_of_a_frame(model, 16)) == 1113
    many = launches_of_a_frame(model, 128)
    assert len(many) == 1238
    # The projection, which goes into a strided place.
    assert many.count("copy_.default") == 1


@torch.inference_mode()
def test_a_prefill_pass_is_nine_kernels_a_layer(model: Csm) -> None:
    from serve_app.model.kernels.prefill import FusedPrefill

    kv = KvCache(model.shape, 12, 256, NOWHERE, torch.bfloat16)
    launches = {}
    for num_tokens, table in prefill_tables(model.shape.num_codebooks, NOWHERE).items():
        with counted_launches() as names:
            FusedPrefill(model, kv.backbone)(tokens_of(table))
        launches[num_tokens] = len(names)
    # Embedding and the last norm; gating is part of the product up to 64 rows.
    assert launches == {64: 8 * 16 + 2, 128: 9 * 16 + 2, 256: 9 * 16 + 2}


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
