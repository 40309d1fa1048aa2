"""The codec keeps to its part of a card."""

from pathlib import Path

import pytest
import torch

from serve_app.codec import loading
from serve_app.model.device import limit_memory
from serve_app.model.device_memory import claim_memory
from serve_app.settings import CodecSettings, Settings


class FakeCuda:
    def __init__(self) -> None:
        self.fractions: list[float] = []

    def set_per_process_memory_fraction(self, fraction: float) -> None:
        self.fractions.append(fraction)


def test_a_process_on_a_card_is_held_to_its_fraction() -> None:
    cuda = FakeCuda()
    limit_memory(torch.device("cuda"), 0.15, cuda)
    assert cuda.fractions == [0.15]


def test_a_cpu_has_no_such_limit() -> None:
    cuda = FakeCuda()
    limit_memory(torch.device("cpu"), 0.15, cuda)
    assert cuda.fractions == []


def test_the_limit_holds_before_anything_is_loaded(
    tiny_checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[object] = []
    none_on_a_cpu = claim_memory(torch.device("cpu"), 1, "")
    monkeypatch.setattr(loading, "claim_memory", lambda _, fraction, __: happened.append(fraction) or none_on_a_cpu)
    monkeypatch.setattr(loading, "load_mimi", lambda *_: happened.append("loaded"))
    loading.load_codec(Settings(model=str(tiny_checkpoint_folder), codec=CodecSettings(memory_fraction=0.3)))
    assert happened == [0.3, "loaded"]
