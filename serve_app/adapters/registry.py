"""Finds adapters by name, and keeps those that are added at run time for all replicas."""

import re
import secrets
import time
from collections.abc import Mapping

from sqlalchemy import Connection, Row, delete, insert, select

from serve_app.adapters.tables import ADAPTERS
from serve_app.errors import InvalidRequest, UnknownAdapter
from serve_app.messages import AdapterRef
from serve_app.store.database import Database, reads, writes

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_ADAPTERS = 10_000


class AdapterRegistry:
    """All methods may raise StorageFailed."""

    def __init__(self, database: Database, configured: Mapping[str, str]) -> None:
        """`configured`: sources by name, as the settings have them. They cannot be removed."""
        self._database = database
        self._configured = {name: AdapterRef(name, source) for name, source in configured.items()}

    async def find(self, name: str) -> AdapterRef:
        """Raises UnknownAdapter."""
        return self._configured.get(name) or await self._stored(name)

    async def all(self) -> list[AdapterRef]:
        """By name."""
        return sorted([*self._configured.values(), *await self._all_stored()], key=lambda ref: ref.name)

    def new(self, name: str, source: str, revision: str | None) -> AdapterRef:
        """An adapter that could be added. Raises InvalidRequest for a name that is not free or not a name."""
        if not NAME.fullmatch(name):
            raise InvalidRequest("name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
        if name in self._configured:
            raise InvalidRequest("name", f"{name} stands in the settings: change it there, or choose another name")
        return AdapterRef(name, source, revision, secrets.token_hex(8))

    @writes
    def put(self, connection: Connection, ref: AdapterRef) -> None:
        """Add `ref` instead of what had its name before."""
        connection.execute(delete(ADAPTERS).where(ADAPTERS.c.name == ref.name))
        values = {"name": ref.name, "source": ref.source, "revision": ref.revision, "version": ref.version}
        connection.execute(insert(ADAPTERS).values(**values, added_at=time.time()))

    @writes
    def remove(self, connection: Connection, name: str) -> None:
        """Requests that run keep it. Raises UnknownAdapter."""
        if connection.execute(delete(ADAPTERS).where(ADAPTERS.c.name == name)).rowcount == 0:
            raise UnknownAdapter(name)

    @reads
    def _stored(self, connection: Connection, name: str) -> AdapterRef:
        row = connection.execute(select(ADAPTERS).where(ADAPTERS.c.name == name)).one_or_none()
        if row is None:
            raise UnknownAdapter(name)
        return _ref(row)

    @reads
    def _all_stored(self, connection: Connection) -> list[AdapterRef]:
        rows = connection.execute(select(ADAPTERS).order_by(ADAPTERS.c.name).limit(MAX_ADAPTERS))
        return [ref for ref in map(_ref, rows) if ref.name not in self._configured]


def _ref(row: Row[tuple[object, ...]]) -> AdapterRef:
    values = row._mapping
    return AdapterRef(values["name"], values["source"], values["revision"], values["version"])
