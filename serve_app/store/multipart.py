"""Uploads in parts, in any order, through any replica, within `files.upload_seconds`."""

from collections.abc import Iterable

from serve_app.errors import FileTooLarge, InvalidRequest, UnknownFile, UnknownUpload
from serve_app.store.file_records import FileTransactions, Piece
from serve_app.store.file_writer import FileWriter
from serve_app.store.stored_file import StoredFile, Upload, new_file_id

MAX_PART_BYTES = 32 * 1024 * 1024
MAX_PARTS = 10_000


class MultipartUploads:
    def __init__(self, transactions: FileTransactions, writer: FileWriter) -> None:
        self._transactions = transactions
        self._writer = writer

    async def begin(self, *, name: str, content_type: str, owner: str, seconds: float | None = None) -> Upload:
        """`seconds`: the lifetime of the complete file, as in `FileStore.put`."""
        upload = self._writer.new_upload(name, content_type, owner, seconds, new_file_id())
        await self._transactions.write(lambda records: records.add_upload(upload))
        return upload

    async def owner(self, upload_id: str) -> str:
        """Raises UnknownUpload."""
        return (await self._upload(upload_id)).owner

    async def put_part(self, upload_id: str, number: int, data: bytes) -> str:
        """Store a part and return its etag. It replaces an earlier part with the same number.

        Raises UnknownUpload, InvalidRequest for a `number` outside 1 to 10 000, FileTooLarge, QuotaExceeded.
        """
        if not 1 <= number <= MAX_PARTS:
            raise InvalidRequest("part_number", f"must be from 1 to {MAX_PARTS}: number the parts in their order")
        if len(data) > MAX_PART_BYTES:
            raise FileTooLarge("part", f"has {len(data)} bytes, the limit is {MAX_PART_BYTES}: send smaller parts")
        upload = await self._upload(upload_id)
        if await self._transactions.read(lambda records: records.file(upload.file_id)):
            raise UnknownUpload(upload_id)  # the file is complete
        return (await self._writer.put_piece(upload, number, data)).etag

    async def complete(self, upload_id: str, parts: Iterable[tuple[int, str]]) -> StoredFile:
        """The file made of these parts (number and etag), in the order of their numbers.

        A second call returns the same file. Raises UnknownUpload, and InvalidRequest for a missing part.
        """
        upload = await self._upload(upload_id)
        # Pieces before file: a concurrent call that completes it takes the pieces and adds the file in one transaction.
        received = await self._transactions.read(lambda records: records.pieces(upload_id, published=False))
        if existing := await self._file(upload):
            return existing
        file = await self._writer.publish(upload, _chosen(received, parts)) or await self._file(upload)
        if file is None:
            raise UnknownFile(upload.file_id)
        return file

    async def _upload(self, upload_id: str) -> Upload:
        return await self._transactions.read(lambda records: records.upload(upload_id))

    async def _file(self, upload: Upload) -> StoredFile | None:
        return await self._transactions.read(lambda records: records.file(upload.file_id))


def _chosen(received: Iterable[Piece], parts: Iterable[tuple[int, str]]) -> list[Piece]:
    """Clients send an etag back with or without the quotes that it has in a header."""
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
