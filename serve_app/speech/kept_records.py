"""The records of answers, for those who ask for an answer again."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from serve_app.audio.watermark.mark import Watermark
from serve_app.errors import NotReady
from serve_app.messages import FRAME_RATE_HZ
from serve_app.ports import AudioDecoder, WordAligner
from serve_app.records.record import Record
from serve_app.records.records import Records
from serve_app.settings import RecordSettings
from serve_app.speech.rendering import rendered
from serve_app.speech.timeline import TimedWord


class KeptRecords:
    """`owner` is the id of the caller's key. Each sees its own records."""

    def __init__(
        self,
        records: Records,
        decoder: AudioDecoder,
        settings: RecordSettings,
        aligner: WordAligner | None = None,
        watermark: Watermark | None = None,
    ) -> None:
        """Without `aligner` no word is timed. With `watermark` all sound is marked, as the answers are."""
        self._watermark = watermark
        self.aligner = aligner
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

    async def sound(
        self, record: Record, turn: int | None = None, speaker: int | None = None, first_frame: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """See `rendered`."""
        async with aclosing(rendered(record, self._decoder, turn, speaker, first_frame)) as sound:
            async for pcm in sound:
                yield pcm if self._watermark is None else await asyncio.to_thread(self._watermark.mark, pcm)

    async def words(self, record: Record) -> list[TimedWord]:
        """When each word is heard. Raises NotReady without an aligner, and what decoding raises."""
        if self.aligner is None:
            raise NotReady("this server has no word aligner")
        words: list[TimedWord] = []
        for number, part in enumerate(record.parts):
            pcm = await self._decoder.decode(record.codes_of(number))
            begins = part.first_frame / FRAME_RATE_HZ
            for word in await self.aligner.align(pcm, part.text):
                start, end = word.start_seconds + begins, word.end_seconds + begins
                words.append(TimedWord(part.turn, part.speaker, word.text, start, end, word.is_estimated))
        return words

    async def sweep(self) -> int:
        return await self._records.sweep()
