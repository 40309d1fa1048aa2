"""What all tests share: which of them run, in which order, and fixtures that are expensive to make."""

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.postgres_server import PostgresServer, postgres_server
from tests.support.ray_server import AUTHENTICATION
from tests.support.waiting import let_http_be_slow

_LONG = ("abuse", "fake_cluster", "job_kills", "kills", "partitions", "slow", "soak")

os.environ |= AUTHENTICATION  # Ray reads it as it is imported
let_http_be_slow()
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two processes share the tests (`-n 2`); see tests/support/schedule.py."""
    from tests.support.schedule import LongestFirst

    return LongestFirst(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones only run where they are asked for by their marker."""
    unasked = _unasked(config)
    left_out = [item for item in items if any(mark.name in unasked for mark in item.iter_markers())]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    if hasattr(config, "workerinput"):  # one of several processes
        from tests.support.schedule import rank

        items.sort(key=rank)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What lives on from one file of tests to the next is not looked at by the collector again: with torch and its
    models in the process a full collection takes seconds, and comes at random in the middle of a test."""
    if nextitem is None or item.path != nextitem.path:
        gc.collect()
        gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # Libraries that count what is left at the end look at everything.


def _unasked(config: pytest.Config) -> set[str]:
    return {name for name in _LONG if not re.search(rf"\b{name}\b", config.option.markexpr)}


@pytest.fixture(scope="session")
def tiny_checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: preset tiny, seed 0, in the Hub's layout."""
    from serve_app.model.create import create_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    create_checkpoint(folder, "tiny", seed=0)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of a process; each test takes a database of its own."""
    with postgres_server() as server:
        yield server
