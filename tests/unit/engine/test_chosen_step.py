"""A step that is slower than the device is made for is chosen with a reason, which operators can see."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from serve_app.engine.steps import choice
from serve_app.engine.steps.choice import chosen_step
from serve_app.errors import StartupError


@pytest.fixture
def on_a_card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model on a card whose kernels do not compile."""
    reasons = {"fused": "product with 5 rows: CompilationError: no sm_90"}
    monkeypatch.setattr(choice, "_why_not", lambda name, model: reasons.get(name))
    return SimpleNamespace(device=torch.device("cuda"))


def test_graphs_of_plain_operations_take_over_and_say_why(on_a_card: Any) -> None:
    chosen = chosen_step("auto", on_a_card)
    assert (chosen.name, chosen.fallback) == ("graphs", "fused: product with 5 rows: CompilationError: no sm_90")


def test_what_is_asked_for_is_no_fallback(on_a_card: Any) -> None:
    assert chosen_step("graphs", on_a_card).fallback == ""
    with pytest.raises(StartupError, match=r"engine\.step: fused cannot run here \(product with 5 rows"):
        chosen_step("fused", on_a_card)
