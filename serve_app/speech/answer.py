"""An answer while it is being spoken, for every dialect."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Self

from serve_app.errors import GenerationFailed, StorageFailed
from serve_app.keys.limits import Taken
from serve_app.messages import FRAME_RATE_HZ, Accepted, AudioChunk, FinishReason, SpokenPart
from serve_app.records.record import Record
from serve_app.speech.outcomes import Outcome
from serve_app.speech.recorder import Recorder
from serve_app.speech.takes import Takes
from serve_app.speech.timeline import TimedText, timed_turns
from serve_app.speech.unbroken import to_its_end
from serve_app.store.stored_file import StoredFile

_log = logging.getLogger(__name__)

Speech = AsyncGenerator[Accepted | AudioChunk, None]


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer in a file."""

    file: StoredFile
    url: str
    seed: int
    finish_reason: FinishReason
    audio_seconds: float
    inference_seconds: float
    """From the request's arrival to the stored file."""
    turns: tuple[TimedText, ...] = ()
    """When each turn is heard."""
    quality: Mapping[str, Any] | None = None
    """The report of its takes, if several were drawn."""


class Answer:
    """Use it with `async with`. Leaving the block frees every slot, settles the allowance and records the outcome."""

    def __init__(  # noqa: PLR0913 - what an answer is made of
        self,
        recorder: Recorder,
        accepted: Accepted,
        speech: Speech,
        taken: Taken,
        record: Callable[[Outcome], None],
        store: Callable[[bytes], Awaitable[tuple[StoredFile, str]]] | None,
        held: AsyncExitStack,
        notices: tuple[str, ...] = (),
        takes: Takes | None = None,
    ) -> None:
        """`store` takes the PCM and returns the file and its URL. `held` is closed when the answer ends.

        notices: what the caller should know about texts and recordings, in words.
        """
        self.request = recorder.request
        self.accepted = accepted
        self.notices = notices
        self.outcome = Outcome(accepted.request_id, accepted.seed, recorder.request.frames_before)
        self.parts: list[SpokenPart] = []
        """Those that have ended so far."""
        self.stored: StoredAnswer | None = None
        """Set once `chunks` has ended, if the scene asks for a file."""
        self.first_audio_at: float | None = None
        """When the first sound came from the engine, on `time.monotonic`'s clock."""
        self._speech = speech
        self._taken = taken
        self._record = record
        self._store = store
        self._held = held
        self._pcm: list[bytes] = []
        self._recorder = recorder
        self._takes = takes
        record(self.outcome)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._held.aclose()
        finally:
            if self.outcome.finish_reason is None:
                self._note(FinishReason.CANCELLED)
            await self._keep_record()

    async def chunks(self) -> AsyncGenerator[AudioChunk, None]:
        """The audio as it is generated. The last chunk has no audio and carries `finish`. Then the file is stored.

        Raises the pipeline's errors. If the scene asks for a file, also GenerationFailed when the engine gave up, and
        errors of the file store.
        """
        try:
            async for message in self._speech:
                assert isinstance(message, AudioChunk), "Accepted comes once"
                self._take(message)
                yield message
            await self._keep_record()
            if self._store is not None:
                self.stored = await self._stored(self._store)
        except Exception as error:
            self._note(FinishReason.ERROR)
            name, frames = type(error).__name__, self.outcome.num_frames
            _log.error("request %s failed with %s after %d frames", self.accepted.request_id, name, frames)
            raise

    async def pcm(self) -> bytes:
        """The whole answer, once it has ended."""
        async with aclosing(self.chunks()) as chunks:
            return b"".join([chunk.pcm async for chunk in chunks])

    async def file(self) -> StoredAnswer:
        """The stored answer, once it has ended. Only for a scene that asks for a file."""
        if self.stored is None:
            async with aclosing(self.chunks()) as chunks:
                async for _ in chunks:
                    pass
        assert self.stored is not None, "the scene asks for a file"
        return self.stored

    def record_so_far(self) -> Record:
        """What was spoken so far."""
        return self._recorder.record()

    async def _keep_record(self) -> None:
        """The answer does not fail for want of a record."""
        try:
            # The record of an answer whose caller left is written too, while the answer still holds its place.
            await to_its_end(self._recorder.keep_once())
        except StorageFailed:
            _log.warning("request %s: its record cannot be kept", self.accepted.request_id)

    def _take(self, chunk: AudioChunk) -> None:
        if chunk.pcm and self.first_audio_at is None:
            self.first_audio_at = time.monotonic()
        self.outcome = self.outcome.heard(chunk.num_frames, chunk.turn, chunk.spoken_chars)
        self._note(chunk.finish)
        made = self.outcome.audio_seconds - self.request.frames_before / FRAME_RATE_HZ
        self._taken.settle(made + (self._takes.dropped_seconds if self._takes else 0.0))
        if chunk.part is not None:
            self.parts.append(chunk.part)
        if self._store is not None:
            self._pcm.append(chunk.pcm)

    async def _stored(self, store: Callable[[bytes], Awaitable[tuple[StoredFile, str]]]) -> StoredAnswer:
        finish = self.outcome.finish_reason
        assert finish is not None, "a stream ends with a chunk that carries finish"
        if finish in (FinishReason.ERROR, FinishReason.CANCELLED):
            raise GenerationFailed("the engine stopped before the scene was spoken")
        file, url = await store(b"".join(self._pcm))
        seconds = time.monotonic() - self.request.arrived_at
        turns = tuple(timed_turns(self.record_so_far()))
        quality = self._takes.report if self._takes else None
        return StoredAnswer(file, url, self.outcome.seed, finish, self.outcome.audio_seconds, seconds, turns, quality)

    def _note(self, finish_reason: FinishReason | None) -> None:
        self.outcome = replace(self.outcome, finish_reason=finish_reason)
        self._record(self.outcome)
