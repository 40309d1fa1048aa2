"""Secrets of the server, such as its URL signing key. Each is made once for all replicas and never changes."""

from collections.abc import Callable

from sqlalchemy import Column, LargeBinary, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from serve_app.store.database import METADATA, Database

SECRETS = Table(
    "secrets",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)


class Secrets:
    """Stored in plain form: read access to the database reveals them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, bytes] = {}

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret with that name. The first caller of all replicas creates it with `make`."""
        if name not in self._known:
            self._known[name] = self._stored(name) or self._made(name, make())
        return self._known[name]

    def _made(self, name: str, value: bytes) -> bytes:
        try:
            with self._database.writing() as connection:
                connection.execute(insert(SECRETS).values(name=name, value=value))
        except IntegrityError:
            pass  # another replica was first
        stored = self._stored(name)
        assert stored is not None, "secrets are never deleted"
        return stored

    def _stored(self, name: str) -> bytes | None:
        with self._database.reading() as connection:
            return connection.execute(select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar()
