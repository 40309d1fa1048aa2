"""A training that was stopped ends as one that was not."""

from pathlib import Path

import torch

from training.steps import Figures, is_finished, resumable_steps, warm_then_fall

TOTAL = 600


def train(file: Path, stop_at: int = TOTAL) -> torch.Tensor:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), 0.01)
    for step in resumable_steps(file, {"layer": layer, "optimizer": optimizer}, TOTAL, Figures()):
        if step == stop_at:
            break
        loss = layer(torch.randn(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer.weight.detach().clone()


def test_it_goes_on_from_what_was_saved(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight.pt")
    train(tmp_path / "stopped.pt", stop_at=430)
    assert torch.load(tmp_path / "stopped.pt")["done"] == 250
    assert not is_finished(tmp_path / "stopped.pt", TOTAL)
    assert torch.equal(train(tmp_path / "stopped.pt"), straight)
    assert is_finished(tmp_path / "stopped.pt", TOTAL)


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    straight = train(tmp_path / "kept.pt")
    before = (tmp_path / "kept.pt").stat().st_mtime_ns
    assert torch.equal(train(tmp_path / "kept.pt"), straight)
    assert (tmp_path / "kept.pt").stat().st_mtime_ns == before


def test_the_learning_rate_rises_holds_and_falls() -> None:
    factors = [warm_then_fall(step, 1000, hold=0.5) for step in range(1000)]
    assert factors[0] == 0.01 and factors[99] == factors[500] == 1
    assert factors[750] < 0.55 and factors[-1] < 0.02
