"""Keeps the records of answers, in one row each: 64 bytes a frame, so a minute of speech takes 48 KB."""

import json
import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from serve_app.errors import UnknownRequest
from serve_app.records.record import Record
from serve_app.records.tables import RECORDS
from serve_app.store.database import Database, lock_name, reads, writes

_REPLACING = 7_210_051
"""PostgreSQL advisory lock, one for each request: two processes must not both insert its record."""


class Records:
    """All methods may raise StorageFailed. Of two records with the same owner and id, the later one counts."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    @writes
    def put(self, connection: Connection, owner: str, record: Record, seconds: float) -> None:
        """Keep it for so many seconds."""
        lock_name(connection, _REPLACING, f"{owner}/{record.request_id}")
        connection.execute(delete(RECORDS).where(*_key(owner, record.request_id)))
        connection.execute(
            insert(RECORDS).values(
                owner=owner,
                request_id=record.request_id,
                expires_at=self._clock() + seconds,
                description=json.dumps(record.description()),
                codes=record.all_codes,
            )
        )

    @reads
    def get(self, connection: Connection, owner: str, request_id: str) -> Record:
        """Raises UnknownRequest if the id is unknown, forgotten, or another owner's."""
        found = select(RECORDS.c.description, RECORDS.c.codes)
        kept = RECORDS.c.expires_at > self._clock()
        row = connection.execute(found.where(*_key(owner, request_id), kept)).one_or_none()
        if row is None:
            raise UnknownRequest(request_id)
        return Record.of(json.loads(row.description), bytes(row.codes))

    @writes
    def delete(self, connection: Connection, owner: str, request_id: str) -> None:
        """A missing record is no error."""
        connection.execute(delete(RECORDS).where(*_key(owner, request_id)))

    @writes
    def sweep(self, connection: Connection) -> int:
        """Delete what has expired. Returns the number of deleted records."""
        return connection.execute(delete(RECORDS).where(RECORDS.c.expires_at <= self._clock())).rowcount


def _key(owner: str, request_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (RECORDS.c.owner == owner, RECORDS.c.request_id == request_id)
