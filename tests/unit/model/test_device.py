"""Copies to a device that must not make the host wait."""

import pytest
import torch
from torch import Tensor

from serve_app.model.csm import Csm
from serve_app.model.device import send, settle_libraries
from serve_app.model.kv_views import TokenRange
from serve_app.model.presets import preset_config
from serve_app.model.shape import CsmShape

# "meta" stands for a card: it is not the CPU, and needs no driver.
CARD = torch.device("meta")


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The tensors that were pinned, which only CUDA can do."""
    tensors: list[Tensor] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    return tensors


def test_a_copy_to_a_card_goes_through_pinned_memory(pinned: list[Tensor]) -> None:
    host = torch.arange(3)
    assert send(host, CARD).device == CARD
    assert [id(tensor) for tensor in pinned] == [id(host)]


def test_on_a_cpu_nothing_is_copied(pinned: list[Tensor]) -> None:
    host = torch.arange(3)
    assert send(host, torch.device("cpu")) is host
    assert pinned == []


def test_prefill_sends_its_rows_and_positions_through_pinned_memory(pinned: list[Tensor]) -> None:
    shape = CsmShape.from_config(preset_config("tiny"))
    model, backbone = Csm(shape, CARD, torch.float32), shape.backbone
    kv = torch.empty(backbone.num_layers, 2, 2, backbone.num_kv_heads, 17, backbone.head_dim, device=CARD)
    model.prefill(torch.empty(6, backbone.hidden_size, device=CARD), kv, [TokenRange(0, 0, 3), TokenRange(1, 4, 2)])
    (rows_and_positions,) = pinned
    assert rows_and_positions.tolist() == [[0, 0, 0, 1, 1, 0], [0, 1, 2, 4, 5, 16]]


def test_libraries_choose_what_is_exact_and_never_plan_on_the_way() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.backends.cudnn.allow_tf32 = True
    settle_libraries()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
