"""The records of answers, for those who ask for an answer again."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from serve_app.ports import AudioDecoder
from serve_app.records.record import Record
from serve_app.records.records import Records
from serve_app.settings import RecordSettings
from serve_app.speech.rendering import rendered


class KeptRecords:
    """`owner` is the id of the caller's key. Each sees its own records."""

    def __init__(self, records: Records, decoder: AudioDecoder, settings: RecordSettings) -> None:
        self._records = records
        self._decoder = decoder
        self._settings = settings

    def keeper(self, owner: str, seconds: float | None) -> Callable[[Record], Awaitable[None]] | None:
        """Keeps an answer's record for so many seconds; None is the server's default. None where none is kept."""
        kept_seconds = self._settings.kept_seconds if seconds is None else seconds
        if not kept_seconds:
            return None

        async def keep(record: Record) -> None:
            await self._records.put(owner, record, kept_seconds)

        return keep

    async def get(self, owner: str, request_id: str) -> Record:
        """Raises UnknownRequest."""
        return await self._records.get(owner, request_id)

    async def delete(self, owner: str, request_id: str) -> None:
        await self._records.delete(owner, request_id)

    def sound(
        self, record: Record, turn: int | None = None, speaker: int | None = None, first_frame: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """See `rendered`."""
        return rendered(record, self._decoder, turn, speaker, first_frame)

    async def sweep(self) -> int:
        return await self._records.sweep()
