"""Everything in here needs CUDA, and nothing but torch, transformers and pytest:

python3 -m pytest tests/gpu
"""

from pathlib import Path

import pytest
import torch

# First: lets the settings be imported where their libraries are missing.
import benchmarks.engine  # noqa: F401

_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _FOLDER in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture(autouse=True)
def exact_float32() -> None:
    """The tests compare with a CPU, or one order of sums with another."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
