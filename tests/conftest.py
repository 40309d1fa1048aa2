"""What the tests share: a small checkpoint with random weights, made once a session."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: preset tiny, seed 0, in the Hub's layout."""
    from serve_app.model.create import create_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    create_checkpoint(folder, "tiny", seed=0)
    return folder
