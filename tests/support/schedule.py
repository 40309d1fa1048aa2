"""How two processes (`-n 2`) share the tests."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_RAY = "tests/integration/"
_WITHOUT_RAY = ("tests/integration/test_job_kills.py",)
_LONGEST = (
    _RAY,
    "tests/unit/voice/",
    "tests/unit/model/native/",
    "tests/unit/model/kernels/",
    "tests/unit/cli/",
    "tests/unit/benchmarks/",
    "tests/contract/",
)
"""By what they took; the rest comes in any order. What is long and begins last keeps one process waiting."""


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process, one after the other: a file, or all that start Ray."""
    file = nodeid.partition("::")[0]
    return _RAY if file.startswith(_RAY) and file not in _WITHOUT_RAY else file


def rank(item: pytest.Item) -> int:
    """Sorts the longest scopes first."""
    begins = [scope(item.nodeid).startswith(prefix) for prefix in _LONGEST]
    return begins.index(True) if any(begins) else len(_LONGEST)


class LongestFirst(LoadScopeScheduling):
    """Hands out scopes in the order in which their tests were collected."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # by the number of tests, which says little of how long they take
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
