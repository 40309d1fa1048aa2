"""What the tests share: a small checkpoint with random weights, made once a session."""

import re
from pathlib import Path
from typing import Any

import pytest

_LONG = ("fake_cluster", "job_kills", "kills", "slow", "soak")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two processes share the tests (`-n 2`): a file stays together, and so do all that start Ray, of which there may
    be one at a time."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if nodeid.startswith("tests/integration/") else nodeid.partition("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones only run where they are asked for by their marker."""
    left_out = [item for item in items if any(mark.name in _unasked(config) for mark in item.iter_markers())]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _unasked(config: pytest.Config) -> set[str]:
    return {name for name in _LONG if not re.search(rf"\b{name}\b", config.option.markexpr)}


@pytest.fixture(scope="session")
def tiny_checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: preset tiny, seed 0, in the Hub's layout."""
    from serve_app.model.create import create_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    create_checkpoint(folder, "tiny", seed=0)
    return folder
