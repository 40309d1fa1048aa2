"""When each word of an answer is heard: a part is aligned once it has ended, off the audio's path."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from serve_app.errors import CsmServeError
from serve_app.messages import FRAME_RATE_HZ, FRAME_SAMPLES, AudioChunk, SpokenPart, WordTime
from serve_app.ports import WordAligner

Find = Callable[[], Awaitable[list[WordTime]]]


class PartWords:
    """Takes the chunks of one answer in order."""

    def __init__(self, aligner: WordAligner | None) -> None:
        """Without an aligner no word is found."""
        self._aligner = aligner
        self._pcm: list[bytes] = []

    def take(self, chunk: AudioChunk) -> Find | None:
        """Where a part ends with this chunk: what finds its words, in seconds from the answer's beginning."""
        if chunk.pcm and chunk.codes.num_frames:  # a pause has no codes, and belongs to no part
            self._pcm.append(chunk.pcm)
        if chunk.part is None:
            return None
        part, pcm, self._pcm = chunk.part, b"".join(self._pcm), []
        return lambda: self._found(part, pcm)

    async def _found(self, part: SpokenPart, pcm: bytes) -> list[WordTime]:
        """Empty if they cannot be found: words are worth less than the audio, which goes on."""
        if len(pcm) != 2 * FRAME_SAMPLES * (part.end_frame - part.first_frame):
            return []  # the part was begun before its stream broke off
        begins = part.first_frame / FRAME_RATE_HZ
        if self._aligner is not None:
            with suppress(CsmServeError):
                return [
                    replace(word, start_seconds=word.start_seconds + begins, end_seconds=word.end_seconds + begins)
                    for word in await self._aligner.align(pcm, part.text)
                ]
        return []
