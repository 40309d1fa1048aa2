"""Secrets of the server itself, such as what its URLs are signed with: made once for all replicas, kept for good."""

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
    """Whoever can read the database has them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, bytes] = {}

    def get(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of that name. Where there is none yet, `make`'s becomes it: the first one's, for everybody."""
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
