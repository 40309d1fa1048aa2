from pathlib import Path

import pytest
import torch
from transformers import CsmForConditionalGeneration

from serve_app.model.checkpoint import Checkpoint, open_checkpoint


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_checkpoint_folder: Path) -> Checkpoint:
    return open_checkpoint(str(tiny_checkpoint_folder), None)


@pytest.fixture(scope="session")
def oracle(tiny_checkpoint_folder: Path) -> CsmForConditionalGeneration:
    return CsmForConditionalGeneration.from_pretrained(tiny_checkpoint_folder).eval()
