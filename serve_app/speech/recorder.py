"""Writes down an answer while it is spoken: its parts, their codes, and where streams were resumed."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from serve_app.messages import Accepted, AudioChunk, Codes, ContextSegment, ModelInfo
from serve_app.records.record import Record, RecordedPart, Resume
from serve_app.speech.parts import Part, parts_of
from serve_app.speech.request import SpeechRequest
from serve_app.speech.seeds import sub_seed


class Recorder:
    """Takes the messages of one answer in order. `record` may be asked for at any time after the first."""

    def __init__(
        self,
        request: SpeechRequest,
        info: ModelInfo,
        notes: Mapping[str, Any] | None = None,
        keep: Callable[[Record], Awaitable[None]] | None = None,
    ) -> None:
        """`keep` stores the record, where it is to be stored."""
        self.request = request
        self._keep = keep
        self._info = info
        self._notes = notes or {}
        self._planned = parts_of(request.turns)
        self._created_at = time.time()
        self._context: tuple[ContextSegment, ...] = ()
        self._num_given = 0
        self._parts: list[RecordedPart] = []
        self._codes: list[bytes] = []
        self._finish: str | None = None

    def accept(self, accepted: Accepted) -> None:
        self._context, self._num_given = accepted.context, accepted.num_given

    def take(self, chunk: AudioChunk) -> None:
        if chunk.finish is not None:
            self._finish = chunk.finish.value
        if not chunk.pcm:
            return
        while len(self._parts) <= chunk.part:
            part = self._planned[len(self._parts)]
            self._parts.append(_begun(part, self.request.sampling.seed, chunk.first_frame))
        part = self._parts[chunk.part]
        if chunk.codes.num_frames:
            self._codes.append(chunk.codes.data)
            resumes = _with_resume(part, chunk)
            part = replace(part, num_frames=part.num_frames + chunk.codes.num_frames, resumes=resumes)
        else:
            part = replace(part, pause_frames=part.pause_frames + chunk.num_frames)
        self._parts[chunk.part] = part

    async def keep_once(self) -> None:
        """Store what was spoken. A second call does nothing. Raises StorageFailed."""
        keep, self._keep = self._keep, None
        if keep is not None:
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
                "turns": [asdict(turn) for turn in request.turns],
                "sampling": asdict(request.sampling),
                "max_audio_seconds": request.max_audio_seconds,
            },
            context=self._context,
            num_given=self._num_given,
            parts=tuple(self._parts),
            codes=Codes(b"".join(self._codes), self._info.num_codebooks),
            notes=self._notes,
        )


def _begun(part: Part, seed: int, first_frame: int) -> RecordedPart:
    piece = part.piece
    return RecordedPart(
        part.turn, part.speaker, piece.text, piece.start, piece.end, sub_seed(seed, part.number), first_frame
    )


def _with_resume(part: RecordedPart, chunk: AudioChunk) -> tuple[Resume, ...]:
    before = part.resumes[-1] if part.resumes else Resume(0, 0, 0)
    now = Resume(part.num_frames, chunk.attempt, chunk.num_lost)
    is_same = (now.attempt, now.num_lost) == (before.attempt, before.num_lost)
    return part.resumes if is_same else (*part.resumes, now)
