"""What the tests share: a small checkpoint with random weights, made once a session."""

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Two processes share the tests (`-n 2 --dist loadgroup`): a file stays together, and so do all that start Ray,
    of which there may be one at a time."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            is_integration = "integration" in item.path.parts
            item.add_marker(pytest.mark.xdist_group("ray" if is_integration else str(item.path)))


@pytest.fixture(scope="session")
def tiny_checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: preset tiny, seed 0, in the Hub's layout."""
    from serve_app.model.create import create_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    create_checkpoint(folder, "tiny", seed=0)
    return folder
