"""Speech of a model that is loaded into this process, for `--local`. Brings torch."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from serve_app import log
from serve_app.cli.progress import progress
from serve_app.cli.speaking import Spoken
from serve_app.client import Turn
from serve_app.messages import SAMPLE_RATE_HZ, AudioChunk
from serve_app.settings import Settings
from serve_app.speech.build import Asked
from serve_app.speech.outcomes import Outcome
from serve_app.speech.scene import Turn as SceneTurn
from serve_app.verify.served import ServedModel

_SEED_BITS = 32


class LocalSource:
    """A `speaking.Source`. One use loads the model and frees it again."""

    sample_rate = SAMPLE_RATE_HZ

    def __init__(self, settings: Settings, turns: Sequence[Turn], seed: int | None) -> None:
        self._settings = settings
        self._asked = Asked([SceneTurn(turn.text, turn.speaker) for turn in turns])
        self._outcome = Outcome("local", secrets.randbits(_SEED_BITS) if seed is None else seed)
        self._finish: str | None = None

    def pcm(self) -> Iterator[bytes]:
        log.set_up("WARNING")
        with asyncio.Runner() as runner:
            chunks = self._chunks()
            try:
                while pcm := runner.run(_next(chunks)):
                    yield pcm
            finally:
                runner.run(chunks.aclose())

    def spoken(self) -> Spoken:
        outcome = self._outcome
        return Spoken(outcome.seed, outcome.audio_seconds, tuple(outcome.turn_start_seconds), self._finish)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        with progress(f"loading {self._settings.model}"):
            model = ServedModel(self._settings)
        try:
            async with aclosing(model.stream(self._asked, self._outcome.seed)) as messages:
                async for message in messages:
                    if isinstance(message, AudioChunk):
                        self._take(message)
                        if message.pcm:
                            yield message.pcm
        finally:
            model.stop()

    def _take(self, chunk: AudioChunk) -> None:
        self._outcome = self._outcome.heard(chunk.num_frames, chunk.turn, chunk.spoken_chars)
        self._finish = chunk.finish or self._finish


async def _next(chunks: AsyncGenerator[bytes, None]) -> bytes:
    """The next audio; empty at the end."""
    return await anext(chunks, b"")
