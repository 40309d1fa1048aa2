"""What one socket does with each message: it holds one conversation, and speaks one turn at a time."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from serve_app.api.realtime.messages import (
    Begin,
    Cancel,
    End,
    Ended,
    Failed,
    Flush,
    Heard,
    HeardTurn,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Ready,
    Reconnect,
    Resume,
    Text,
)
from serve_app.api.realtime.speaker import Send, TurnSpeaker, Voice
from serve_app.audio.encode.formats import coding_of
from serve_app.errors import CsmServeError, InvalidRequest, Overloaded, UnknownRequest
from serve_app.keys.key import Key
from serve_app.records.record import Record
from serve_app.settings import Settings
from serve_app.speech.build import Asked, AskedClip, context_of
from serve_app.speech.call import Call
from serve_app.speech.kept_records import KeptRecords
from serve_app.speech.live.cutter import Schedule
from serve_app.speech.live.text import LiveText
from serve_app.speech.scene import Scene, Turn
from serve_app.speech.service import SpeechService
from serve_app.speech.talk import Talk

_SAMPLING = ("temperature", "top_k", "top_p", "repetition_penalty")

_RECORD_TRIES, _RECORD_PAUSE_SECONDS = 15, 0.2


class Session:
    """Use it through `opened`, which frees everything when the socket is gone."""

    def __init__(self, speech: SpeechService, talk: Talk, settings: Settings, key: Key, send: Send) -> None:
        self._speech = speech
        self._talk = talk
        self._settings = settings
        self._key = key
        self._send = send
        self._begin: Begin | None = None
        self._voice: Voice | None = None
        self._speaker: TurnSpeaker | None = None
        self._reading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator["Session", None]:
        try:
            yield self
        finally:
            for task in (self._reading, self._speaker.task if self._speaker else None):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, CsmServeError):
                        await task

    async def take(self, message: Any) -> None:
        """Serve one message of `Incoming`. Raises CsmServeError."""
        if isinstance(message, Ping):
            await self._send(Pong())
        elif isinstance(message, Begin):
            await self._open(message)
        elif isinstance(message, Resume):
            await self._resume(message)
        else:
            await self._serve(message, self._opened_voice())

    async def reconnect(self) -> None:
        """Tell the client to go on elsewhere, from the first frame that it lacks."""
        if self._voice is None:
            return
        speaker = self._speaker if self._speaker and not self._speaker.task.done() else None
        if speaker is not None:
            await speaker.interrupt(None)
        await self._send(
            Reconnect(
                conversation_id=self._voice.conversation_id,
                request_id=speaker.request_id if speaker else None,
                next_frame=speaker.next_frame if speaker else 0,
            )
        )

    async def _serve(self, message: Any, voice: Voice) -> None:
        if isinstance(message, Text):
            (await self._speaking(voice)).text.feed(message.text)
        elif isinstance(message, Flush | End):
            if self._speaker is not None:
                self._speaker.text.close() if isinstance(message, End) else self._speaker.text.flush()
        elif isinstance(message, Cancel):
            await self._cancel(message.played_ms)
        elif isinstance(message, Heard):
            await self._hear(message, voice)
        elif isinstance(message, Prepare):
            self._reading = asyncio.create_task(self._prepare(voice))

    async def _open(self, message: Begin) -> None:
        if self._voice is not None:
            raise InvalidRequest("type", "begin was sent before: a socket holds one conversation")
        if message.conversation_id is not None:
            conversation = await self._talk.conversations.get(self._key.id, message.conversation_id)
        else:
            conversation = await self._talk.begin(self._key, (), message.state)
        coding = coding_of(message.format, message.sample_rate)
        await self._live_scene(message)  # so that a wrong field is known now
        self._begin = message
        aligner = self._speech.records.aligner if message.words and self._speech.records else None
        self._voice = Voice(conversation.id, coding, await self._talk.room_seconds(), aligner)
        info = await self._speech.info()
        await self._send(
            Ready(
                conversation_id=conversation.id,
                turns=len(conversation.turns),
                sample_rate=coding.rate_hz,
                format=coding.format.name,
                weights=info.weights,
                notice=info.notice,
            )
        )

    async def _resume(self, message: Resume) -> None:
        """Send what the lost socket missed of an answer, from its codes."""
        if self._speech.records is None:
            raise InvalidRequest("request_id", "cannot be gone on with: this server keeps no records")
        record = await self._record(self._speech.records, message.request_id)
        await self._open(Begin(type="begin", conversation_id=message.conversation_id))
        frame = message.from_frame
        async with aclosing(self._speech.records.sound(record, first_frame=frame)) as sound:
            async for pcm in sound:
                audio = TurnSpeaker.audio(message.request_id, frame, len(pcm) // 3840, pcm)
                await self._send(audio)
                frame += audio.frames
        last = record.parts[-1] if record.parts else None
        await self._send(
            Ended(
                request_id=record.request_id,
                turn=None,
                finish_reason=record.finish_reason or "cancelled",
                frames=record.num_frames,
                spoken_chars=0 if last is None else last.end if record.finish_reason == "eos" else last.start,
            )
        )

    async def _record(self, records: KeptRecords, request_id: str) -> Record:
        """The record of a lost socket's answer, which may be being written. Raises UnknownRequest."""
        for _ in range(_RECORD_TRIES):
            with suppress(UnknownRequest):
                return await records.get(self._key.id, request_id)
            await asyncio.sleep(_RECORD_PAUSE_SECONDS)
        return await records.get(self._key.id, request_id)

    async def _speaking(self, voice: Voice) -> TurnSpeaker:
        """The turn that speaks, or a new one."""
        if self._speaker is None or self._speaker.task.done():
            assert self._begin is not None, "a voice comes with begin"
            scene, text = await self._live_scene(self._begin)
            call = Call(uuid.uuid4().hex, self._key, is_streamed=True)
            self._speaker = TurnSpeaker(self._talk, voice, scene, text, call, self._send)
            self._speaker.task.add_done_callback(self._report)
        return self._speaker

    async def _live_scene(self, begin: Begin) -> tuple[Scene, LiveText]:
        asked = Asked(
            turns=[Turn("", begin.speaker)],
            sampling={name: value for name in _SAMPLING if (value := getattr(begin, name)) is not None},
            seed=begin.seed,
            normalize=begin.normalize,
        )
        return await self._speech.live(asked, self._settings, Schedule())

    async def _cancel(self, played_ms: float | None) -> None:
        if self._speaker is None:
            raise InvalidRequest("type", "cancel has nothing to stop: no turn was begun on this socket")
        await self._send(await self._speaker.interrupt(played_ms))
        self._speaker = None

    async def _hear(self, message: Heard, voice: Voice) -> None:
        clip = AskedClip(message.text, message.speaker, message.audio)
        (source,) = context_of([clip], self._settings.limits)
        number, turn = await self._talk.hear(self._key, voice.conversation_id, source)
        await self._send(HeardTurn(turn=number, frames=turn.num_frames))

    async def _prepare(self, voice: Voice) -> None:
        """Beside the socket's messages. A busy server leaves the reading to the turn itself."""
        with suppress(Overloaded):
            assert self._begin is not None, "a voice comes with begin"
            positions = await self._talk.prepare(self._key, voice.conversation_id, self._begin.speaker)
            await self._send(Prepared(prompt_positions=positions))

    async def _tell(self, error: CsmServeError) -> None:
        await self._send(failed(error))

    def _report(self, task: "asyncio.Task[None]") -> None:
        """A turn that failed says so; one that was cancelled has been answered."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CsmServeError):
            self._reading = asyncio.create_task(self._tell(error))

    def _opened_voice(self) -> Voice:
        if self._voice is None:
            raise InvalidRequest("type", "must be begin or resume in the first message")
        return self._voice


def failed(error: CsmServeError) -> Failed:
    field = error.field if isinstance(error, InvalidRequest) else None
    return Failed(kind=error.kind, detail=str(error), field=field)
