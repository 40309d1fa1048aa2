"""A loop that looks for work is told when a look is in vain: after a look, until somebody writes or time passes."""

import sqlite3
from pathlib import Path

from sqlalchemy import create_engine, insert

from serve_app.store.database import Database
from serve_app.store.lookout import Lookout
from serve_app.store.tables import UPLOADS

ROW = {"id": "u", "file_id": "f", "name": "n", "content_type": "t", "owner": "k", "ends_at": 1.0}


async def test_a_write_is_news_once_for_each_that_looks(database: Database) -> None:
    first, second = database.lookout(), database.lookout()
    assert [first.has_news(), second.has_news()] == [True, True]
    assert [first.has_news(), first.has_news()] == [not database.is_sqlite] * 2
    await database.write(lambda connection: connection.execute(insert(UPLOADS).values(ROW)))
    assert [first.has_news(), second.has_news()] == [True, True]
    assert first.has_news() is not database.is_sqlite


def test_what_another_process_writes_is_news_and_a_second_without_any_is_too(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("CREATE TABLE t (n)")
    now = [10.0]
    lookout = Lookout(create_engine(f"sqlite:///{tmp_path}/state.db"), lambda: now[0])
    assert [lookout.has_news(), lookout.has_news()] == [True, False]
    other.execute("INSERT INTO t VALUES (1)")
    assert [lookout.has_news(), lookout.has_news()] == [True, False]
    now[0] += 0.9
    assert not lookout.has_news()
    now[0] += 0.2
    assert [lookout.has_news(), lookout.has_news()] == [True, False]


def test_where_nothing_waits_for_a_time_only_a_write_is_news(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("CREATE TABLE t (n)")
    now = [10.0]
    lookout = Lookout(create_engine(f"sqlite:///{tmp_path}/state.db"), lambda: now[0])
    assert lookout.has_news()
    lookout.nothing_waits()
    now[0] += 3600
    assert not lookout.has_news()
    other.execute("INSERT INTO t VALUES (1)")
    assert lookout.has_news()
    now[0] += 1.1
    assert lookout.has_news(), "what was written may wait for a time"


def test_a_file_that_cannot_be_read_may_have_changed(tmp_path: Path) -> None:
    lookout = Lookout(create_engine(f"sqlite:///{tmp_path}/no/such/folder/state.db"))
    assert [lookout.has_news(), lookout.has_news()] == [True, True]
