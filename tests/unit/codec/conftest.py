"""The small Mimi of these tests, shared where nothing changes it."""

from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import MimiConfig, MimiModel

from serve_app.codec.mimi import MimiModel as MoshiMimi
from serve_app.codec.mimi import load_mimi
from tests.support.small_mimi import CPU, NUM_CODEBOOKS, random_mimi, small_config


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def config() -> MimiConfig:
    return small_config()


@pytest.fixture(scope="session")
def oracle(config: MimiConfig) -> MimiModel:
    return random_mimi(config)


@pytest.fixture
def new_mimi(oracle: MimiModel, config: MimiConfig) -> Callable[[], MoshiMimi]:
    """Each call gives another instance over the same weights: a streaming one cannot be reused."""
    return lambda: load_mimi(oracle.state_dict().items(), config, NUM_CODEBOOKS, CPU)
