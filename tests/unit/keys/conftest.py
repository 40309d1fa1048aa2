"""Keys on each kind of database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.key_replicas import Clock, CountingDatabase


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CountingDatabase]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/state.db"
    else:
        url = request.getfixturevalue("postgres").new_database()
    database = CountingDatabase.open(url)
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()
