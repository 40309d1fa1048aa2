"""What the rest of the server takes for granted of its database, on each kind."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, String, Table, create_engine, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from serve_app.errors import StartupError, StorageFailed
from serve_app.store.database import METADATA, Database
from tests.support.postgres_server import postgres_server

COUNTERS = Table("test_counters", METADATA, Column("name", String, primary_key=True), Column("value", Integer))


def value_of(database: Database) -> int | None:
    with database.reading() as connection:
        return connection.execute(select(COUNTERS.c.value)).scalar()


def start_counting(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(insert(COUNTERS).values(name="n", value=0))


def test_what_was_written_is_there_after_opening_again(database: Database, database_url: str) -> None:
    start_counting(database)
    database.close()
    again = Database.open(database_url)
    assert value_of(again) == 0
    again.close()


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(LookupError), database.writing() as connection:
        connection.execute(insert(COUNTERS).values(name="n", value=0))
        raise LookupError
    assert value_of(database) is None


def test_a_reader_does_not_wait_for_a_writer_and_does_not_see_what_is_not_committed(database: Database) -> None:
    start_counting(database)
    with database.writing() as connection:
        connection.execute(update(COUNTERS).values(value=1))
        assert value_of(database) == 0
    assert value_of(database) == 1


async def test_writers_from_many_threads_lose_no_update(database: Database) -> None:
    start_counting(database)

    def add_one(connection) -> None:
        locked = select(COUNTERS.c.value).with_for_update()  # SQLite has no such words, and needs none
        value = connection.execute(locked).scalar_one()
        connection.execute(update(COUNTERS).values(value=value + 1))

    await asyncio.gather(*(database.write(add_one) for _ in range(100)))
    assert value_of(database) == 100


async def test_a_caller_who_is_cancelled_leaves_the_transaction_whole(database: Database) -> None:
    start_counting(database)
    begun, goes_on = threading.Event(), threading.Event()

    def slowly(connection) -> None:
        connection.execute(update(COUNTERS).values(value=1))
        begun.set()
        assert goes_on.wait(30)

    writing = asyncio.create_task(database.write(slowly))
    assert await asyncio.to_thread(begun.wait, 30)
    writing.cancel()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    for _ in range(300):
        if value_of(database) == 1:
            return
        await asyncio.sleep(0.1)
    pytest.fail("the transaction was lost")


def test_replicas_that_open_an_empty_database_together_all_can(database_url: str) -> None:
    code = (
        "import sys; from serve_app.store import tables; from serve_app.store.database import Database; "
        "Database.open(sys.argv[1]).close()"
    )
    starting = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in starting:
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0


def test_a_writer_in_another_process_is_waited_for(database: Database, database_url: str) -> None:
    start_counting(database)
    code = (
        "import sys, time; from sqlalchemy import text; from serve_app.store.database import Database\n"
        "with Database.open(sys.argv[1]).writing() as connection:\n"
        "    connection.execute(text('UPDATE test_counters SET value = value + 1'))\n"
        "    print('locked', flush=True); time.sleep(1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, database_url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    with database.writing() as connection:
        connection.execute(update(COUNTERS).values(value=COUNTERS.c.value + 1))
    assert process.wait(60) == 0
    assert value_of(database) == 2


def test_a_process_that_is_killed_within_a_transaction_leaves_the_database_usable(
    database: Database, database_url: str
) -> None:
    start_counting(database)
    code = (
        "import os, sys; from sqlalchemy import text; from serve_app.store.database import Database\n"
        "with Database.open(sys.argv[1]).writing() as connection:\n"
        "    connection.execute(text('UPDATE test_counters SET value = 5'))\n"
        "    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, database_url], timeout=60).returncode == -9
    with database.writing() as connection:
        assert connection.execute(select(func.count()).select_from(COUNTERS)).scalar() == 1
    assert value_of(database) == 0


def test_sqlite_is_kept_safe_against_a_power_cut_and_readable_while_it_is_written(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/not/there/yet/state.db")
    with database.reading() as connection:
        pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]
    database.close()


def test_a_reading_connection_keeps_no_writer_out(database: Database) -> None:
    start_counting(database)
    with database.reading() as reading:
        reading.execute(select(COUNTERS.c.value)).scalar()
        with database.writing() as writing:
            writing.execute(update(COUNTERS).values(value=1))
    assert value_of(database) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "oracle://nowhere/x",
        "postgresql://nowhere/x",
        "mongodb://somewhere/x",
        "sqlite:////proc/no/such/folder/state.db",
        "postgresql+psycopg://user:hunter2@127.0.0.1:1/x",
    ],
)
def test_a_database_that_cannot_be_opened_is_one_clear_line_without_its_password(url: str) -> None:
    with pytest.raises(StartupError, match=r"^database\.url: .*name a file") as caught:
        Database.open(url)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError):
        Database.open(f"sqlite:///{tmp_path}")


def test_statements_that_fail_leave_their_connection_usable(database: Database) -> None:
    start_counting(database)
    with pytest.raises(DBAPIError, match="no_such_table"), database.reading() as connection:
        connection.execute(text("SELECT * FROM no_such_table"))
    assert value_of(database) == 0


def test_nobody_else_on_the_machine_can_read_the_file_and_what_lies_beside_it(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'state.db'}")
    start_counting(database)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_an_error_does_not_show_what_a_statement_was_given(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught, database.reading() as connection:
        connection.execute(text("SELECT * FROM no_such_table WHERE said = :said"), {"said": "a secret"})
    assert "a secret" not in str(caught.value)


async def test_a_database_that_is_gone_is_a_storage_that_failed() -> None:
    with postgres_server() as server:
        database = Database.open(server.new_database())
    for ask in (database.read, database.write):
        with pytest.raises(StorageFailed, match="try again later"):
            await ask(lambda connection: connection.execute(text("SELECT 1")))


async def test_a_disk_without_room_is_too(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'state.db'}")

    def fill(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # as large as it is, and no larger
        connection.execute(insert(COUNTERS).values(name="n" * 1_000_000, value=0))

    with pytest.raises(StorageFailed, match="no room"):
        await database.write(fill)
    start_counting(database)
    assert value_of(database) == 0


async def test_a_server_that_only_reads_is_too() -> None:
    """A standby that clients were led to."""
    with postgres_server() as server:
        url = server.new_database()
        Database.open(url).close()
        database = Database(create_engine(url, connect_args={"options": "-c default_transaction_read_only=on"}))
        assert await database.read(lambda connection: connection.scalar(text("SELECT 1"))) == 1
        with pytest.raises(StorageFailed, match="try again later"):
            await database.write(lambda connection: connection.execute(insert(COUNTERS).values(name="n", value=0)))
        database.close()


async def test_a_server_that_hangs_is_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.store.database._ANSWER_SECONDS", 0.2)
    over = threading.Event()
    with pytest.raises(StorageFailed, match="does not answer"):
        await database.read(lambda connection: over.wait(20))
    over.set()
    assert await database.read(lambda connection: connection.scalar(text("SELECT 1"))) == 1


async def test_a_process_keeps_no_more_connections_than_it_is_told() -> None:
    count = text("SELECT count(*) FROM pg_stat_activity, pg_sleep(0.02) WHERE datname = current_database()")
    with postgres_server() as server:
        database = Database.open(server.new_database(), connections=2)
        seen = await asyncio.gather(*(database.read(lambda connection: connection.scalar(count)) for _ in range(12)))
        database.close()
    assert max(seen) == 2


async def test_so_is_one_whose_connections_are_all_taken(tmp_path: Path) -> None:
    one = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}
    database = Database(create_engine(f"sqlite:///{tmp_path / 'state.db'}", **one))
    with database.reading(), pytest.raises(StorageFailed, match="does not answer"):
        await database.read(lambda connection: None)
    database.close()
