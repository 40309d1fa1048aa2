"""When each character of an answer is said: its words are found once their part has ended, beside the audio."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Self

from serve_app.align.characters import spoken_edges, typed_edges
from serve_app.api.elevenlabs.alignment import Aligned, seconds_of
from serve_app.messages import AudioChunk, SpokenPart, WordTime
from serve_app.ports import WordAligner
from serve_app.speech.word_times import PartWords


class CharacterTimes:
    """Of the typed characters and of the spoken ones. What is not spoken goes with the part behind it.

    Use it with `async with`: leaving the block ends what is still looking for words.
    """

    def __init__(self, text: str, speed: float, aligner: WordAligner | None) -> None:
        self._text = text
        self._speed = speed
        self._words = PartWords(aligner) if aligner is not None else None
        self._parts: deque[tuple[SpokenPart, asyncio.Future[list[WordTime]]]] = deque()
        self._told = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in [task for _, task in self._parts]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def take(self, chunk: AudioChunk) -> None:
        find = self._words.take(chunk) if self._words is not None else _nothing
        if find is not None and chunk.part is not None:
            self._parts.append((chunk.part, asyncio.ensure_future(find())))

    def known(self) -> dict[str, Any]:
        """Times of the parts since the last call, as far as they are known; null if none are."""
        typed, spoken = Aligned(), Aligned()
        while self._parts and self._parts[0][1].done():
            part, task = self._parts.popleft()
            self._add(part, task.result(), typed, spoken)
        return {
            "alignment": typed.in_seconds() if typed.chars else None,
            "normalized_alignment": spoken.in_seconds() if spoken.chars else None,
        }

    async def all(self) -> dict[str, Any]:
        """As `known`, once they are known of all parts that were taken."""
        if self._parts:
            await asyncio.wait([task for _, task in self._parts])
        return self.known()

    def _add(self, part: SpokenPart, words: list[WordTime], typed: Aligned, spoken: Aligned) -> None:
        text, self._told = self._text[self._told : part.end_char], part.end_char
        said = f"{part.text} "
        edges = spoken_edges(said, words, *seconds_of(part, 1.0))
        typed.add(text, typed_edges(text, said, edges) / self._speed)
        spoken.add(said, edges / self._speed)


def _nothing() -> asyncio.Future[list[WordTime]]:
    """No words, at once."""
    found: asyncio.Future[list[WordTime]] = asyncio.get_running_loop().create_future()
    found.set_result([])
    return found
