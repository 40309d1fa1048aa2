"""Training that goes on where it was stopped."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

_SAVE_EVERY, _SAY_EVERY = 250, 50

log = logging.getLogger("training")


class HasState(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Figures:
    """Running averages of what a step measures, for the log."""

    def __init__(self) -> None:
        self._averages: dict[str, float] = {}

    def add(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            before = self._averages.get(name, value)
            self._averages[name] = 0.95 * before + 0.05 * value

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in self._averages.items())


def resumable_steps(file: Path, parts: Mapping[str, HasState], total: int, figures: Figures) -> Iterator[int]:
    """The numbers of the steps that are left. `parts` are read from `file` where it is, and kept in it.

    Every step seeds torch by its own number, so that a run that was stopped ends as one that was not.
    """
    done = 0
    if file.exists():
        kept = torch.load(file)
        done = kept["done"]
        for name, part in parts.items():
            part.load_state_dict(kept[name])
    started, first = time.monotonic(), done
    for step in range(done, total):
        torch.manual_seed(step)
        yield step
        done = step + 1
        if done % _SAY_EVERY == 0:
            seconds = (time.monotonic() - started) / (done - first)
            log.info("%s %d/%d, %.0f min left: %s", file.stem, done, total, (total - done) * seconds / 60, figures)
        if done % _SAVE_EVERY == 0 or done == total:
            _save(file, {"done": done} | {name: part.state_dict() for name, part in parts.items()})


def is_finished(file: Path, total: int) -> bool:
    return file.exists() and torch.load(file)["done"] >= total


def _save(file: Path, state: dict[str, Any]) -> None:
    scratch = file.with_suffix(".part")
    torch.save(state, scratch)
    os.replace(scratch, file)


def warm_then_fall(step: int, total: int, hold: float) -> float:
    """A factor for the learning rate: up over 100 steps, level to the share `hold` of all, then down to nearly 0."""
    return min(1, (step + 1) / 100, (1 - step / total) / (1 - hold) + 0.01)
