"""The database: SQLite in one file by default, PostgreSQL on a cluster. SQLAlchemy Core, no object mapper."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from serve_app.errors import StartupError, StorageFailed

T = TypeVar("T")
_log = logging.getLogger(__name__)

METADATA = MetaData()
"""Every table of this project: each package declares its own on it, in its `tables.py`."""

_WRITES = "csm_writes"
_BUSY_SECONDS = 15.0
_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 20.0
"""Longer than a lock of SQLite is waited for. A server that hangs keeps its connection open and says nothing."""
_LOST_SERVER = {"tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
"""A machine that is gone ends its connections within ten seconds, so that no thread waits for it for ever."""
_MOST_THREADS = 8
_CREATING_TABLES = 7_210_031
"""PostgreSQL's advisory lock: replicas that start together must not all create the tables."""


class Database:
    """Synchronous inside, since its statements take tens of microseconds; `read` and `write` are for event loops."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "database")

    @classmethod
    def open(cls, url: str) -> Self:
        """`sqlite:///FILE` or `postgresql+psycopg://…`, tables included. Raises StartupError where that cannot be."""
        try:
            database = cls(_engine(url))
            database._create_tables()
        except (SQLAlchemyError, ImportError, OSError) as error:  # ImportError: the driver that the URL asks for
            raise StartupError(
                f"database.url: cannot open the database ({type(error).__name__}): "
                "name a file as sqlite:////FOLDER/state.db, or a server as postgresql+psycopg://USER:PASSWORD@HOST/NAME"
            ) from None
        return database

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that takes no lock and leaves nothing behind."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block, undone where it raises.

        SQLite's is exclusive from its first statement on, so that two never wait for each other's locks.
        """
        with self._engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """`work` on a `reading` connection, off the event loop. Raises StorageFailed where the database does."""

        def run() -> T:
            with self.reading() as connection:
                return work(connection)

        return await self._in_thread(run)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction, off the event loop. Once begun it ends, also where the caller is cancelled.

        Raises StorageFailed where the database cannot be reached, is locked for too long, has no room left, or only
        reads.
        """

        def run() -> T:
            with self.writing() as connection:
                return work(connection)

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except (OperationalError, InterfaceError, InternalError) as error:  # the last: a standby, which only reads
            raise _failed(error.orig) from error
        except (NoConnectionFree, TimeoutError) as error:
            raise _failed(f"no answer within {_ANSWER_SECONDS:.0f} seconds, or no connection free") from error

    def close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()

    def _create_tables(self) -> None:
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CREATING_TABLES})
            METADATA.create_all(connection)


def _failed(reason: object) -> StorageFailed:
    _log.error("the database failed: %s", reason)
    return StorageFailed("the database does not answer or has no room; try again later")


def _engine(url: str) -> Engine:
    # A statement's parameters hold what users said; an error that is logged must not.
    if not url.startswith("sqlite"):
        timeout = {"connect_timeout": _CONNECT_SECONDS, **_LOST_SERVER} if url.startswith("postgresql") else {}
        pool = {"pool_pre_ping": True, "pool_size": _MOST_THREADS, "max_overflow": 2}
        return create_engine(url, hide_parameters=True, connect_args=timeout, **pool)
    arguments = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(url, hide_parameters=True, connect_args=arguments)
    if engine.url.database not in (None, "", ":memory:"):
        _prepare_file(Path(engine.url.database))
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_file(path: Path) -> None:
    """Nobody else on this machine may read it: it holds what the server signs with. SQLite gives the files that it
    puts beside it the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Python's driver opens transactions by its own rules; `_begin_sqlite` does it by ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Readers and one writer do not stop each other; FULL, since an accepted job must survive a power cut too.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")
