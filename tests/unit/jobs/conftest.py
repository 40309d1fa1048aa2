"""Each test of the queue runs on SQLite and on a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from serve_app.store.database import METADATA, Database
from tests.support.jobs_harness import Clock, Harness
from tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres_database(postgres: PostgresServer) -> Iterator[Database]:
    database = Database.open(postgres.new_database())
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Empty."""
    if request.param == "sqlite":
        database = Database.open(f"sqlite:///{tmp_path}/state.db")
        yield database
        database.close()
    else:
        database = request.getfixturevalue("postgres_database")
        yield database
        with database.writing() as connection:
            for table in reversed(METADATA.sorted_tables):
                connection.execute(delete(table))


@pytest.fixture
def harness(database: Database) -> Harness:
    return Harness(database, Clock())
