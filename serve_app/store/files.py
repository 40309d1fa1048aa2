"""Uploads and finished audio: written whole or not at all, found by an id that nobody guesses, gone when their time is
over.

A file is a row in the database and up to 8 MiB of it in each object of the store. So memory does not grow with a file,
parts that arrive through several replicas need no copying together, and the local folder and S3 behave alike.
"""

import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from serve_app.errors import FileTooLarge, InvalidRequest, UnknownFile, UnknownUpload
from serve_app.settings import FileSettings
from serve_app.store.database import Database
from serve_app.store.file_records import FileRecords, Piece
from serve_app.store.object_store import Objects
from serve_app.store.stored_file import StoredFile, Upload, new_file_id, safe_content_type, safe_name
from serve_app.store.tables import FILES, PIECES

T = TypeVar("T")

MAX_PART_BYTES = 32 * 1024 * 1024
MAX_PARTS = 10_000

_PIECE_BYTES = 8 * 1024 * 1024
_SWEPT_AT_ONCE = 500


class FileStore:
    """All methods may raise StorageFailed. Whom a file belongs to (`owner`) is recorded here and checked elsewhere."""

    def __init__(
        self, database: Database, objects: Objects, settings: FileSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._clock = clock

    async def put(
        self,
        data: bytes | AsyncIterator[bytes],
        *,
        name: str,
        content_type: str,
        owner: str,
        seconds: float | None = None,
        file_id: str | None = None,
    ) -> StoredFile:
        """Store a file for `seconds` (None: `files.kept_seconds`; infinite: until it is deleted).

        Where there is a file of that `file_id` it stays as it is, and is returned: the second run of a job, or an
        upload sent twice, changes nothing. Raises FileTooLarge, QuotaExceeded, and UnknownUpload where `data` takes
        longer than `files.upload_seconds`.
        """
        upload = self._new_upload(name, content_type, owner, seconds, file_id or new_file_id())
        if there := await self._read(lambda records: records.file(upload.file_id)):
            return there
        pieces, published = [], False
        try:
            async for number, part in _numbered(_split(data)):
                pieces.append(await self._put_piece(upload, number, part))
            file = self._file(upload, pieces)
            published = await self._publish(file, pieces)
        finally:
            if not published:
                await self._give_up(upload.id)
        return file if published else await self.info(upload.file_id)

    async def info(self, file_id: str) -> StoredFile:
        """Raises UnknownFile."""
        found = await self._read(lambda records: records.file(file_id))
        if found is None:
            raise UnknownFile(file_id)
        return found

    async def read(self, file_id: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes `start` to before `end`. Raises UnknownFile before the first; a deletion later does not disturb."""
        file = await self.info(file_id)
        offset = 0
        for piece in await self._read(lambda records: records.pieces(file.upload_id, published=True)):
            first = max(start - offset, 0)
            last = piece.size if end is None else min(end - offset, piece.size)
            if first < last:
                async for chunk in self._objects.read(piece.key, first, last):
                    yield chunk
            offset += piece.size

    async def read_all(self, file_id: str, max_bytes: int) -> bytes:
        """Raises UnknownFile, and FileTooLarge where there is more than `max_bytes`."""
        file = await self.info(file_id)
        if file.size > max_bytes:
            raise FileTooLarge(
                "file", f"has {file.size} bytes, at most {max_bytes} can be used here: send a smaller file"
            )
        return b"".join([chunk async for chunk in self.read(file_id)])

    async def keep(self, file_id: str, seconds: float) -> bool:
        """Have a file for `seconds` from now, if it would have ended before; False where there is none."""
        return await self._write(lambda records: records.keep(file_id, self._clock() + seconds))

    async def delete(self, file_id: str) -> None:
        """It is unknown at once and its bytes are gone some minutes later. One that is not there is no error."""
        await self._write(lambda records: records.delete(FILES.c.id == file_id))

    async def begin_parts(self, *, name: str, content_type: str, owner: str, seconds: float | None = None) -> Upload:
        """A file that comes in parts, in any order, through any replica, within `files.upload_seconds`."""
        upload = self._new_upload(name, content_type, owner, seconds, new_file_id())
        await self._write(lambda records: records.add_upload(upload))
        return upload

    async def upload_owner(self, upload_id: str) -> str:
        """Raises UnknownUpload."""
        return (await self._upload(upload_id)).owner

    async def put_part(self, upload_id: str, number: int, data: bytes) -> str:
        """The part's etag. A part sent again takes the earlier one's place.

        Raises UnknownUpload, InvalidRequest for `number` (1 to 10 000), FileTooLarge, QuotaExceeded.
        """
        if not 1 <= number <= MAX_PARTS:
            raise InvalidRequest("part_number", f"must be from 1 to {MAX_PARTS}: number the parts in their order")
        if len(data) > MAX_PART_BYTES:
            raise FileTooLarge("part", f"has {len(data)} bytes, at most {MAX_PART_BYTES} are taken: send smaller parts")
        upload = await self._upload(upload_id)
        if await self._read(lambda records: records.file(upload.file_id)):
            raise UnknownUpload(upload_id)  # it is complete
        return (await self._put_piece(upload, number, data)).etag

    async def complete_parts(self, upload_id: str, parts: Iterable[tuple[int, str]]) -> StoredFile:
        """The file made of these parts (number and etag), in the order of their numbers. Completing twice is as once.

        Raises UnknownUpload, and InvalidRequest for parts that are not there.
        """
        upload = await self._upload(upload_id)
        # In this order: whoever completes it meanwhile takes the pieces and makes the file at once.
        received = await self._read(lambda records: records.pieces(upload_id, published=False))
        if there := await self._read(lambda records: records.file(upload.file_id)):
            return there
        pieces = _chosen(received, parts)
        file = self._file(upload, pieces)
        return file if await self._publish(file, pieces) else await self.info(file.id)

    async def abort_parts(self, upload_id: str) -> None:
        """Its parts are dropped. One that is not there is no error; a complete file stays."""
        await self._give_up(upload_id)
        await self._write(lambda records: records.remove_upload(upload_id))

    async def sweep(self) -> int:
        """Delete what has expired, was deleted, or was never finished. Returns the number of objects deleted."""
        await self._write(lambda records: records.expire())
        num_deleted = 0
        while keys := await self._read(lambda records: records.unneeded(_SWEPT_AT_ONCE)):
            await self._objects.delete(keys)
            await self._write(lambda records, keys=keys: records.forget(keys))
            num_deleted += len(keys)
        return num_deleted

    def _new_upload(self, name: str, content_type: str, owner: str, seconds: float | None, file_id: str) -> Upload:
        kept = (self._settings.kept_seconds or math.inf) if seconds is None else seconds
        if not kept > 0:
            raise InvalidRequest("kept_seconds", "must be above 0: leave it out for the default")
        return Upload(
            id=secrets.token_hex(16),
            file_id=file_id,
            name=safe_name(name),
            content_type=safe_content_type(content_type),
            owner=owner,
            kept_seconds=None if math.isinf(kept) else kept,
            ends_at=self._clock() + self._settings.upload_seconds,
        )

    async def _upload(self, upload_id: str) -> Upload:
        return await self._read(lambda records: records.upload(upload_id))

    async def _put_piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        token = secrets.token_hex(16)
        piece = Piece(f"{token[:2]}/{token}", number, len(data))  # 256 folders, so that none grows too large
        await self._write(lambda records: records.add_piece(upload, piece, self._settings))
        await self._objects.put(piece.key, data)
        return piece

    def _file(self, upload: Upload, pieces: list[Piece]) -> StoredFile:
        now = self._clock()
        return StoredFile(
            id=upload.file_id,
            name=upload.name,
            content_type=upload.content_type,
            size=sum(piece.size for piece in pieces),
            owner=upload.owner,
            created_at=now,
            expires_at=None if upload.kept_seconds is None else now + upload.kept_seconds,
            upload_id=upload.id,
        )

    async def _publish(self, file: StoredFile, pieces: list[Piece]) -> bool:
        try:
            return await self._write(lambda records: records.publish(file, pieces))
        except IntegrityError:  # another writer of the same id was first
            return False

    async def _give_up(self, upload_id: str) -> None:
        await self._write(lambda records: records.give_up(PIECES.c.upload_id == upload_id))

    async def _read(self, work: Callable[[FileRecords], T]) -> T:
        return await self._database.read(lambda connection: work(FileRecords(connection, self._clock())))

    async def _write(self, work: Callable[[FileRecords], T]) -> T:
        return await self._database.write(lambda connection: work(FileRecords(connection, self._clock())))


def _chosen(received: Iterable[Piece], parts: Iterable[tuple[int, str]]) -> list[Piece]:
    """Clients hand an etag back with or without the quotes that it has in a header."""
    by_part = {(piece.number, piece.etag): piece for piece in received}
    chosen = []
    for number, etag in sorted(dict(parts).items()):
        piece = by_part.get((number, etag.strip('"')))
        if piece is None:
            raise InvalidRequest("parts", f"part {number} was not received with this etag: send it again")
        chosen.append(piece)
    if not chosen:
        raise InvalidRequest("parts", "is empty: name each part's number and etag")
    return chosen


async def _numbered(parts: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    number = 0
    async for part in parts:
        yield number, part
        number += 1


async def _split(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces of the size that the store takes; the last may be smaller, and no data is no piece."""
    waiting = bytearray()
    async for chunk in _chunks(data):
        waiting += chunk
        while len(waiting) >= _PIECE_BYTES:
            yield bytes(waiting[:_PIECE_BYTES])
            del waiting[:_PIECE_BYTES]
    if waiting:
        yield bytes(waiting)


async def _chunks(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if not isinstance(data, bytes):
        async for chunk in data:
            yield chunk
        return
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]
