"""Writes down an answer while it is spoken: its parts, their codes, and where streams were resumed."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from serve_app.messages import Accepted, AudioChunk, Codes, ContextSegment, ModelInfo
from serve_app.records.record import Record, RecordedPart, Rest, Resume
from serve_app.speech.live.text import LiveText
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.speech.text.splitting import Break, Piece

Speech = AsyncGenerator[Accepted | AudioChunk, None]


class Recorder:
    """Takes the messages of one answer in order. `record` may be asked for at any time after the first."""

    def __init__(
        self,
        request: SpeechRequest,
        info: ModelInfo,
        notes: Mapping[str, Any] | None = None,
        keepers: Sequence[Callable[[Record], Awaitable[None]]] = (),
        text: LiveText | None = None,
        earlier: Record | None = None,
    ) -> None:
        """`keepers` store the record, where it is to be stored. `text`: what is spoken while it comes.

        earlier: the record of the same answer before it broke off, which this one goes on with.
        """
        self.request = request
        self._keepers = keepers
        self._info = info
        self._notes = notes or {}
        self._created_at = time.time()
        self._text = text
        self._earlier = earlier
        self._context: tuple[ContextSegment, ...] = earlier.context if earlier else ()
        self._num_given = earlier.num_given if earlier else 0
        self._parts: list[RecordedPart] = [*earlier.parts] if earlier else []
        self._codes: list[bytes] = [earlier.codes.data] if earlier else []
        self._finish: str | None = None

    def accept(self, accepted: Accepted) -> None:
        if self._earlier is None:
            self._context, self._num_given = accepted.context, accepted.num_given

    def take(self, chunk: AudioChunk) -> None:
        if chunk.finish is not None:
            self._finish = chunk.finish.value
        if not chunk.pcm or chunk.utterance is None:
            return
        # An utterance that ran away at once has no sound, and so no part.
        if not self._parts or self._parts[-1].number != chunk.utterance.number:
            self._parts.append(RecordedPart(**asdict(chunk.utterance), first_frame=chunk.first_frame))
        part = self._parts[-1]
        if chunk.codes.num_frames:
            self._codes.append(chunk.codes.data)
            resumes = _with_resume(part, chunk)
            part = replace(part, num_frames=part.num_frames + chunk.codes.num_frames, resumes=resumes)
        else:
            part = replace(part, pause_frames=part.pause_frames + chunk.num_frames)
        self._parts[-1] = part

    async def recorded(self, speech: Speech) -> Speech:
        """The same messages, written down as they come from the engine."""
        async with aclosing(speech) as messages:
            async for message in messages:
                if isinstance(message, Accepted):
                    self.accept(message)
                else:
                    self.take(message)
                yield message

    async def keep_once(self) -> None:
        """Store what was spoken. A second call does nothing. Raises StorageFailed."""
        keepers, self._keepers = self._keepers, ()
        for keep in keepers:
            await keep(self.record())

    def record(self) -> Record:
        """What was spoken so far."""
        request = self.request
        return Record(
            request_id=request.request_id,
            created_at=self._created_at,
            seed=request.sampling.seed,
            finish_reason=self._finish,
            model=asdict(self._info),
            scene={
                "turns": [asdict(turn) for turn in self._turns()],
                "sampling": asdict(request.sampling),
                "max_audio_seconds": request.max_audio_seconds,
                "adapters": {name: ref.key.hex() for name, ref in request.adapters.items()},
            },
            context=self._context,
            num_given=self._num_given,
            parts=tuple(self._parts),
            codes=Codes(b"".join(self._codes), self._info.num_codebooks),
            notes=self._notes,
            rest=self._rest(),
        )

    def _rest(self) -> Rest | None:
        if self._finish is not None or self._text is None or self._text.is_forgotten:
            return None
        spoken = self._parts[-1].end if self._parts else 0
        return Rest(self._text.typed_from(spoken), self._text.is_closed)

    def _turns(self) -> Sequence[Turn]:
        """The request's, or what was spoken of a text that was still growing."""
        if any(turn.text for turn in self.request.turns):
            return self.request.turns
        pieces = tuple(
            Piece(part.text, part.num_words, part.start, part.end, Break(part.ends_with)) for part in self._parts
        )
        text = " ".join(piece.text for piece in pieces)
        return [replace(turn, text=text, prepared=pieces) for turn in self.request.turns]


def _with_resume(part: RecordedPart, chunk: AudioChunk) -> tuple[Resume, ...]:
    before = part.resumes[-1] if part.resumes else Resume(0, 0, 0)
    now = Resume(part.num_frames, chunk.attempt, chunk.num_lost)
    is_same = (now.attempt, now.num_lost) == (before.attempt, before.num_lost)
    return part.resumes if is_same else (*part.resumes, now)
