"""Writes files piece by piece. A file becomes readable when it is published, whole or not at all."""

import math
import secrets
from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError

from serve_app.errors import InvalidRequest
from serve_app.settings import FileSettings
from serve_app.store.file_records import FileTransactions, Piece
from serve_app.store.object_store import Objects
from serve_app.store.stored_file import StoredFile, Upload, safe_content_type, safe_name
from serve_app.store.tables import PIECES


class FileWriter:
    def __init__(self, transactions: FileTransactions, objects: Objects, settings: FileSettings) -> None:
        self._transactions = transactions
        self._objects = objects
        self._settings = settings

    def new_upload(self, name: str, content_type: str, owner: str, seconds: float | None, file_id: str) -> Upload:
        """`seconds`: the file's lifetime. None takes `files.kept_seconds`, infinity keeps it until it is deleted."""
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
            ends_at=self._transactions.clock() + self._settings.upload_seconds,
        )

    async def put_piece(self, upload: Upload, number: int, data: bytes) -> Piece:
        """Store one piece, in place of an earlier one with the same number."""
        token = secrets.token_hex(16)
        piece = Piece(f"{token[:2]}/{token}", number, len(data))  # 256 folders keep each one small
        await self._transactions.write(lambda records: records.add_piece(upload, piece, self._settings))
        await self._objects.put(piece.key, data, upload.owner)
        return piece

    async def publish(self, upload: Upload, pieces: Sequence[Piece]) -> StoredFile | None:
        """The file made of `pieces`. None if another writer has published a file with that id."""
        now = self._transactions.clock()
        file = StoredFile(
            id=upload.file_id,
            name=upload.name,
            content_type=upload.content_type,
            size=sum(piece.size for piece in pieces),
            owner=upload.owner,
            created_at=now,
            expires_at=None if upload.kept_seconds is None else now + upload.kept_seconds,
            upload_id=upload.id,
        )
        try:
            return file if await self._transactions.write(lambda records: records.publish(file, pieces)) else None
        except IntegrityError:
            return None

    async def give_up(self, upload_id: str) -> None:
        """Drop the pieces of an upload that will not be published."""
        await self._transactions.write(lambda records: records.give_up(PIECES.c.upload_id == upload_id))
