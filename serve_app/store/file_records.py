"""The rows of files, uploads and pieces: location, owner and lifetime.

A piece has a row from before its object is written until after it is deleted, so the sweep finds every object even if
a process dies in between. Objects are deleted `GRACE_SECONDS` after their last use, when open downloads have ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from serve_app.errors import FileTooLarge, QuotaExceeded, UnknownUpload
from serve_app.settings import FileSettings
from serve_app.store.database import Database, lock_name
from serve_app.store.stored_file import StoredFile, Upload
from serve_app.store.tables import FILES, PIECES, UPLOADS

T = TypeVar("T")

GRACE_SECONDS = 600.0
DISK_FACTOR = 4
"""A key's bytes on the disk, those that wait to be deleted included, are at most so many quotas."""

_COUNTING_QUOTA = 7_210_032
"""PostgreSQL advisory lock, one for each owner: two uploads must not both take the last room."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file. Each is one object of the store."""

    key: str
    number: int
    size: int

    @property
    def etag(self) -> str:
        return self.key.rpartition("/")[2]


class FileRecords:
    """Statements within the transaction of `connection`. `now` is in unix seconds."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._now = now

    def file(self, file_id: str) -> StoredFile | None:
        kept = or_(FILES.c.expires_at.is_(None), FILES.c.expires_at > self._now)
        row = self._connection.execute(select(FILES).where(FILES.c.id == file_id, kept)).one_or_none()
        return None if row is None else StoredFile(**row._mapping)

    def upload(self, upload_id: str) -> Upload:
        """Raises UnknownUpload."""
        known = (UPLOADS.c.id == upload_id, UPLOADS.c.ends_at > self._now)
        row = self._connection.execute(select(UPLOADS).where(*known)).one_or_none()
        if row is None:
            raise UnknownUpload(upload_id)
        return Upload(**row._mapping)

    def add_upload(self, upload: Upload) -> None:
        self._connection.execute(insert(UPLOADS).values(asdict(upload)))

    def pieces(self, upload_id: str, published: bool) -> list[Piece]:
        """Ordered by number. `published=False` gives the pieces of an unfinished upload."""
        state = PIECES.c.unused_at.is_(None) if published else PIECES.c.unused_at > self._now
        found = select(PIECES.c.key, PIECES.c.number, PIECES.c.size).where(PIECES.c.upload_id == upload_id, state)
        return [Piece(*row) for row in self._connection.execute(found.order_by(PIECES.c.number, PIECES.c.key))]

    def add_piece(self, upload: Upload, piece: Piece, limits: FileSettings) -> None:
        """Add a piece, in place of one with the same number. Raises FileTooLarge and QuotaExceeded."""
        self.give_up(PIECES.c.upload_id == upload.id, PIECES.c.number == piece.number)
        live = or_(PIECES.c.unused_at.is_(None), PIECES.c.unused_at > self._now)
        if self._bytes(PIECES.c.upload_id == upload.id, live) + piece.size > limits.max_file_bytes:
            raise FileTooLarge("file", f"is larger than {limits.max_file_bytes} bytes: send a smaller file")
        if limits.quota_bytes:
            lock_name(self._connection, _COUNTING_QUOTA, upload.owner)
            self._check_quota(PIECES.c.owner == upload.owner, live, piece.size, limits.quota_bytes)
        row = {"upload_id": upload.id, "owner": upload.owner, "unused_at": upload.ends_at, **asdict(piece)}
        self._connection.execute(insert(PIECES).values(row))

    def _check_quota(self, ours: ColumnElement[bool], live: ColumnElement[bool], size: int, quota: int) -> None:
        if self._bytes(ours, live) + size > quota:
            raise QuotaExceeded(
                "file",
                f"does not fit: the files of this key may take {quota} bytes together. "
                "Delete some, or store them for a shorter time",
            )
        if self._bytes(ours) + size > DISK_FACTOR * quota:
            raise QuotaExceeded(
                "file",
                f"does not fit: with what was replaced or deleted in the last {GRACE_SECONDS / 60:.0f} minutes, and is "
                f"still on the disk, the files of this key may take {DISK_FACTOR * quota} bytes. Try again later",
            )

    def publish(self, file: StoredFile, pieces: Sequence[Piece]) -> bool:
        """Make `file` readable, and give up the pieces of its upload that are not in `pieces`.

        Returns False and changes nothing if a file with that id exists. Raises UnknownUpload if the upload has timed
        out, and sqlalchemy's IntegrityError if another transaction publishes the same id at the same time.
        """
        if self.file(file.id) is not None:
            return False
        # Removes an expired file that was not swept yet, but not one that another process has just published.
        self.delete(FILES.c.id == file.id, FILES.c.expires_at <= self._now)
        self._connection.execute(insert(FILES).values(asdict(file)))
        ours = (PIECES.c.upload_id == file.upload_id, PIECES.c.key.in_([piece.key for piece in pieces]))
        kept = update(PIECES).where(*ours, PIECES.c.unused_at > self._now).values(unused_at=None)
        if self._connection.execute(kept).rowcount != len(pieces):
            raise UnknownUpload(file.upload_id)
        self.give_up(PIECES.c.upload_id == file.upload_id)
        return True

    def keep(self, file_id: str, until: float) -> bool:
        """Extend the lifetime of a file. False if there is no file with that id."""
        shorter = (FILES.c.id == file_id, FILES.c.expires_at > self._now, FILES.c.expires_at < until)
        self._connection.execute(update(FILES).where(*shorter).values(expires_at=until))
        return self.file(file_id) is not None

    def give_up(self, *which: ColumnElement[bool]) -> None:
        """Release the pieces among these that belong to no file."""
        given_up = update(PIECES).where(*which, PIECES.c.unused_at > self._now)
        self._connection.execute(given_up.values(unused_at=self._now))

    def delete(self, *which: ColumnElement[bool]) -> None:
        """Delete these files at once. Their pieces are released for the sweep."""
        uploads = select(FILES.c.upload_id).where(*which)
        unused = update(PIECES).where(PIECES.c.upload_id.in_(uploads), PIECES.c.unused_at.is_(None))
        self._connection.execute(unused.values(unused_at=self._now))
        self._connection.execute(delete(FILES).where(*which))

    def expire(self) -> None:
        """Delete expired files, and uploads that were never completed."""
        self.delete(FILES.c.expires_at <= self._now)
        self._connection.execute(delete(UPLOADS).where(UPLOADS.c.ends_at <= self._now))

    def unneeded(self, at_most: int) -> list[str]:
        """Keys of objects that may be deleted."""
        found = select(PIECES.c.key).where(PIECES.c.unused_at < self._now - GRACE_SECONDS).limit(at_most)
        return list(self._connection.execute(found).scalars())

    def forget(self, keys: Sequence[str]) -> None:
        self._connection.execute(delete(PIECES).where(PIECES.c.key.in_(keys)))

    def _bytes(self, *which: ColumnElement[bool]) -> int:
        stored = select(func.coalesce(func.sum(PIECES.c.size), 0)).where(*which)
        return int(self._connection.execute(stored).scalar_one())


class FileTransactions:
    """Runs work on `FileRecords` off the event loop, each call in one transaction. Raises StorageFailed."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self.clock = clock

    async def read(self, work: Callable[[FileRecords], T]) -> T:
        return await self._database.read(lambda connection: work(FileRecords(connection, self.clock())))

    async def write(self, work: Callable[[FileRecords], T]) -> T:
        return await self._database.write(lambda connection: work(FileRecords(connection, self.clock())))
