"""The database: one SQLite file by default, PostgreSQL on a cluster. SQLAlchemy Core, no object mapper."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from sqlalchemy import Column, Connection, Engine, MetaData, Table, create_engine, event, inspect, text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from serve_app.errors import StartupError, StorageFailed
from serve_app.store.lookout import Lookout
from serve_app.turns import FairThreads, TurnLimits, current_owner

T = TypeVar("T")
P = ParamSpec("P")
_log = logging.getLogger(__name__)

METADATA = MetaData()
"""All tables of this project. Each package declares its own in its `tables.py`."""

_WRITES = "csm_writes"
_BUSY_SECONDS = 15.0
_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 20.0
"""Longer than SQLite waits for a lock. It also bounds the wait for a server that hangs with its connection open."""
_LOST_SERVER = {"tcp_user_timeout": 10_000, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
"""Ends the connections to a machine that is gone within ten seconds, so that no thread waits for it for ever."""
_CONNECTIONS = 3
_SQLITE_THREADS = 8
_MOST_WAITING = 10_000
"""Statements. Requests have bounds of their own, far below."""
_CREATING_TABLES = 7_210_031
"""PostgreSQL advisory lock: of replicas that start together, one creates the tables."""


class Database:
    """Runs statements synchronously in threads of its own; `read` and `write` await them from an event loop.

    Statements wait in a line that is fair to the keys for which they run (`turns.working_for`).
    """

    def __init__(self, engine: Engine, connections: int = _CONNECTIONS) -> None:
        self._engine = engine
        limits = TurnLimits("statements wait", connections, _MOST_WAITING, _MOST_WAITING, 2 * _ANSWER_SECONDS)
        self._threads = FairThreads("database", limits)

    @classmethod
    def open(cls, url: str, connections: int = _CONNECTIONS) -> Self:
        """Open `sqlite:///FILE` or `postgresql+psycopg://…` and create missing tables. Raises StartupError.

        connections: the most that this process keeps. Further statements wait in line.
        """
        try:
            database = cls(_engine(url, connections), _SQLITE_THREADS if url.startswith("sqlite") else connections)
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

    def lookout(self) -> Lookout:
        """One for each loop."""
        return Lookout(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for statements that only read. It takes no lock."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, rolled back if the block raises.

        On SQLite it is exclusive from its first statement, so that two never wait for each other's locks.
        """
        with self._engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a `reading` connection, off the event loop. Raises StorageFailed if the database fails."""
        return await self._in_thread(self.reading, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, off the event loop. The transaction ends even if the caller is cancelled.

        Raises StorageFailed if the database cannot be reached, is locked for too long, is full, or is read-only.
        """
        return await self._in_thread(self.writing, work)

    async def _in_thread(
        self, connect: Callable[[], AbstractContextManager[Connection]], work: Callable[[Connection], T]
    ) -> T:
        def run() -> T:
            with connect() as connection:
                return work(connection)

        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._threads.run(current_owner(), run)
        except (OperationalError, InterfaceError, InternalError) as error:  # InternalError: a read-only standby
            raise _failed(error.orig) from error
        except (NoConnectionFree, TimeoutError) as error:
            raise _failed(f"no answer within {_ANSWER_SECONDS:.0f} seconds, or no connection free") from error

    def close(self) -> None:
        self._threads.close()
        self._engine.dispose()

    def _create_tables(self) -> None:
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CREATING_TABLES})
            METADATA.create_all(connection)
            _add_missing(connection)


def _add_missing(connection: Connection) -> None:
    """Add columns and indexes that an older release's tables lack. Each such column has a default in the database."""
    known = inspect(connection)
    for table in METADATA.sorted_tables:
        columns = {column["name"] for column in known.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                connection.execute(AddColumn(table, column))
        indexes = {index["name"] for index in known.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection)


class AddColumn(ExecutableDDLElement):
    def __init__(self, table: Table, column: Column[Any]) -> None:
        self.table = table
        self.column = column


@compiles(AddColumn)
def _add_column(element: AddColumn, compiler: DDLCompiler, **_: Any) -> str:
    column = compiler.get_column_specification(element.column)
    return f"ALTER TABLE {compiler.preparer.format_table(element.table)} ADD COLUMN {column}"


class UsesDatabase(Protocol):
    """The classes whose methods `reads` and `writes` decorate."""

    _database: Database


S = TypeVar("S", bound=UsesDatabase)
Statements = Callable[Concatenate[S, Connection, P], T]
Awaited = Callable[Concatenate[S, P], Coroutine[Any, Any, T]]


def reads(method: Statements[S, P, T]) -> Awaited[S, P, T]:
    """Make a method that takes a connection awaitable without one, through `Database.read`."""

    @wraps(method)
    async def run(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.read(lambda connection: method(self, connection, *args, **kwargs))

    return run


def writes(method: Statements[S, P, T]) -> Awaited[S, P, T]:
    """The same in a transaction, through `Database.write`."""

    @wraps(method)
    async def run(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._database.write(lambda connection: method(self, connection, *args, **kwargs))

    return run


def lock_name(connection: Connection, purpose: int, name: str) -> None:
    """Hold PostgreSQL's advisory lock on `name` until the transaction ends. SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(:purpose, hashtext(:name))")
        connection.execute(lock, {"purpose": purpose, "name": name})


Clock = Callable[[], float]
"""Unix seconds, set by hand in tests."""


def time_of(clock: Clock | None) -> Callable[[Connection], float]:
    """The time within a transaction: the database's, so that clocks of machines that differ take no lease away."""
    return database_time if clock is None else lambda _: clock()


def database_time(connection: Connection) -> float:
    """Unix seconds by the clock that all processes share: PostgreSQL's, or that of the machine with the SQLite file."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
    return time.time()


def _failed(reason: object) -> StorageFailed:
    _log.error("the database failed: %s", reason)
    return StorageFailed("the database does not answer or has no room; try again later")


def _engine(url: str, connections: int) -> Engine:
    # hide_parameters: statement parameters hold users' text, which must not reach the log.
    if not url.startswith("sqlite"):
        timeout = {"connect_timeout": _CONNECT_SECONDS, **_LOST_SERVER} if url.startswith("postgresql") else {}
        pool = {"pool_pre_ping": True, "pool_size": connections, "max_overflow": 0}
        return create_engine(url, hide_parameters=True, connect_args=timeout, **pool)
    arguments = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(url, hide_parameters=True, connect_args=arguments)
    if engine.url.database not in (None, "", ":memory:"):
        _prepare_file(Path(engine.url.database))
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_file(path: Path) -> None:
    """Create the file for its owner alone: it holds the server's secrets. SQLite's side files get the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Turns off the transactions that Python's driver opens by itself; `_begin_sqlite` opens ours.
    connection.isolation_level = None
    cursor = connection.cursor()
    # WAL: readers and the writer do not block each other. FULL: an accepted job survives a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")
