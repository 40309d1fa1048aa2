"""Uploads and finished audio. A file is written whole or not at all, found by an unguessable id, and expires.

A file is a row in the database and objects of up to 8 MiB in the object store. So memory does not grow with the file,
parts that arrive at several replicas need no copying, and the local folder and S3 behave alike.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from serve_app.errors import FileTooLarge, UnknownFile
from serve_app.settings import FileSettings
from serve_app.store.database import Database
from serve_app.store.file_records import FileTransactions
from serve_app.store.file_writer import FileWriter
from serve_app.store.multipart import MultipartUploads
from serve_app.store.object_store import Objects
from serve_app.store.stored_file import StoredFile, new_file_id
from serve_app.store.tables import FILES

_PIECE_BYTES = 8 * 1024 * 1024
_SWEEP_BATCH = 500


class FileStore:
    """All methods may raise StorageFailed. The store records a file's `owner`; its users check it."""

    def __init__(
        self, database: Database, objects: Objects, settings: FileSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._transactions = FileTransactions(database, clock)
        self._objects = objects
        self._writer = FileWriter(self._transactions, objects, settings)
        self.multipart = MultipartUploads(self._transactions, self._writer)

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
        """Store a file for `seconds` (None: `files.kept_seconds`; infinity: until it is deleted).

        If a file with that `file_id` exists, it stays unchanged and is returned. So neither the second run of a job nor
        a repeated upload changes a file. Raises FileTooLarge, QuotaExceeded, and UnknownUpload if `data` takes longer
        than `files.upload_seconds`.
        """
        upload = self._writer.new_upload(name, content_type, owner, seconds, file_id or new_file_id())
        if existing := await self._transactions.read(lambda records: records.file(upload.file_id)):
            return existing
        pieces, file = [], None
        try:
            async for part in _split(data):
                pieces.append(await self._writer.put_piece(upload, len(pieces), part))
            file = await self._writer.publish(upload, pieces)
        finally:
            if file is None:
                await self._writer.give_up(upload.id)
        return file or await self.info(upload.file_id)

    async def info(self, file_id: str) -> StoredFile:
        """Raises UnknownFile."""
        found = await self._transactions.read(lambda records: records.file(file_id))
        if found is None:
            raise UnknownFile(file_id)
        return found

    async def read(self, file_id: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Bytes from `start` up to `end`. Raises UnknownFile before the first; a later deletion does no harm."""
        file = await self.info(file_id)
        offset = 0
        for piece in await self._transactions.read(lambda records: records.pieces(file.upload_id, published=True)):
            first = max(start - offset, 0)
            last = piece.size if end is None else min(end - offset, piece.size)
            if first < last:
                async for chunk in self._objects.read(piece.key, first, last, file.owner):
                    yield chunk
            offset += piece.size

    async def read_all(self, file_id: str, max_bytes: int) -> bytes:
        """Raises UnknownFile, and FileTooLarge for a file of more than `max_bytes`."""
        file = await self.info(file_id)
        if file.size > max_bytes:
            raise FileTooLarge("file", f"has {file.size} bytes, the limit here is {max_bytes}: send a smaller file")
        return b"".join([chunk async for chunk in self.read(file_id)])

    async def keep(self, file_id: str, seconds: float) -> bool:
        """Extend a file's lifetime to at least `seconds` from now. False if there is no such file."""
        until = self._transactions.clock() + seconds
        return await self._transactions.write(lambda records: records.keep(file_id, until))

    async def delete(self, file_id: str) -> None:
        """The file is unknown at once; its bytes go some minutes later. A missing file is no error."""
        await self._transactions.write(lambda records: records.delete(FILES.c.id == file_id))

    async def sweep(self) -> int:
        """Delete what has expired, was deleted, or was never finished. Returns the number of deleted objects."""
        await self._transactions.write(lambda records: records.expire())
        num_deleted = 0
        while keys := await self._transactions.read(lambda records: records.unneeded(_SWEEP_BATCH)):
            await self._objects.delete(keys)
            await self._transactions.write(lambda records, keys=keys: records.forget(keys))
            num_deleted += len(keys)
        return num_deleted


async def _split(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces of 8 MiB, of which the last may be smaller. No data gives no piece."""
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
