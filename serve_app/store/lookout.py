"""For loops that look into the database again and again and mostly find nothing."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Engine

_LONGEST_SECONDS = 1.0
"""What waits for a time comes due although nobody writes."""


class Lookout:
    """Tells whether a look may find anything new. On SQLite that costs microseconds and no thread: the file has a
    number that every transaction raises. A database of another kind may have changed at any time."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = engine.url.database if engine.dialect.name == "sqlite" else None
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None
        self._said_yes_at = float("-inf")
        self._anything_waits = True

    def has_news(self) -> bool:
        """Whether anybody, this process too, may have written since the last call, or the last yes is a second ago and
        something may wait for a time.
        """
        now = self._clock()
        is_time = self._anything_waits and now - self._said_yes_at >= _LONGEST_SECONDS
        if self._has_changed() or is_time:
            self._said_yes_at = now
            self._anything_waits = True
            return True
        return False

    def nothing_waits(self) -> None:
        """Call it after a look that `has_news` led to and that found nothing that will come due by itself."""
        self._anything_waits = False

    def _has_changed(self) -> bool:
        if not self._file:
            return True
        with suppress(sqlite3.Error):
            before, self._version = self._version, self._read_version()
            return self._version != before
        return True

    def _read_version(self) -> int:
        """It counts what other connections than this one have written, and this one never writes."""
        if self._connection is None:
            self._connection = sqlite3.connect(str(self._file), timeout=0)
        return self._connection.execute("PRAGMA data_version").fetchone()[0]
