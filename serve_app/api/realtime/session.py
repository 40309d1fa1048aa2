"""What one socket does with each message: it holds one conversation, and speaks one turn at a time."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from serve_app.api.realtime.incoming import Begin, Cancel, End, Flush, Heard, Opening, Ping, Prepare, Resume, Text
from serve_app.api.realtime.opening import Opened
from serve_app.api.realtime.outgoing import HeardTurn, Pong, Prepared, Reconnect, Resumed, failed
from serve_app.api.realtime.resuming import ended, record_of, send_missed
from serve_app.api.realtime.speaker import Send, TurnSpeaker
from serve_app.conversations.conversation import Conversation
from serve_app.errors import CsmServeError, InvalidRequest, Overloaded
from serve_app.keys.key import Key
from serve_app.records.record import Record
from serve_app.settings import Settings
from serve_app.speech.build import AskedClip, context_of
from serve_app.speech.call import Before, Call
from serve_app.speech.going_on import can_go_on, gone_on
from serve_app.speech.live.text import LiveText
from serve_app.speech.scene import Scene
from serve_app.speech.service import SpeechService
from serve_app.speech.talk import Talk, is_last_turn


class Session:
    """Use it through `opened`, which frees everything when the socket is gone."""

    def __init__(self, speech: SpeechService, talk: Talk, settings: Settings, key: Key, send: Send) -> None:
        self._speech = speech
        self._talk = talk
        self._settings = settings
        self._key = key
        self._send = send
        self._opened: Opened | None = None
        self._speaker: TurnSpeaker | None = None
        self._beside: asyncio.Task[None] | None = None
        """What is done beside the socket's messages: reading, or telling of an error."""

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator["Session", None]:
        try:
            yield self
        finally:
            for task in (self._beside, self._speaker.task if self._speaker else None):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, CsmServeError):
                        await task

    async def take(self, message: Any) -> None:
        """Serve one message of `Incoming`. Raises CsmServeError."""
        if isinstance(message, Ping):
            await self._send(Pong())
        elif isinstance(message, Begin):
            await self._open(message, await self._conversation(message))
        elif isinstance(message, Resume):
            await self._resume(message)
        elif self._opened is None:
            raise InvalidRequest("type", "must be begin or resume in the first message")
        else:
            await self._serve(message, self._opened)

    async def reconnect(self) -> None:
        """Tell the client to go on elsewhere, from the first frame that it lacks."""
        if self._opened is None:
            return
        speaker = self._speaker if self._speaker and not self._speaker.task.done() else None
        if speaker is not None:
            await speaker.interrupt(None)
        await self._send(
            Reconnect(
                conversation_id=self._opened.conversation.id,
                request_id=speaker.request_id if speaker else None,
                next_frame=speaker.next_frame if speaker else 0,
            )
        )

    async def _serve(self, message: Any, opened: Opened) -> None:
        if isinstance(message, Text):
            (await self._speaking(opened)).text.feed(message.text)
        elif isinstance(message, Flush | End):
            if self._speaker is not None:
                self._speaker.text.close() if isinstance(message, End) else self._speaker.text.flush()
        elif isinstance(message, Cancel):
            await self._cancel(message.played_ms)
        elif isinstance(message, Heard):
            await self._hear(message, opened)
        elif isinstance(message, Prepare):
            self._beside = asyncio.create_task(self._prepare(opened))

    async def _conversation(self, message: Begin) -> Conversation:
        if message.conversation_id is not None:
            return await self._talk.conversations.get(self._key.id, message.conversation_id)
        return await self._talk.begin(self._key, (), message.state)

    async def _open(self, said: Opening, conversation: Conversation) -> Opened:
        if self._opened is not None:
            raise InvalidRequest("type", "begin was sent before: a socket holds one conversation")
        self._opened = await Opened.by(said, conversation, self._speech, self._settings, self._key)
        await self._send(await self._opened.ready())
        return self._opened

    async def _resume(self, message: Resume) -> None:
        """Send what the lost socket missed of an answer, and speak the rest of it, if it broke off."""
        records = self._speech.records
        if records is None:
            raise InvalidRequest("request_id", "cannot be gone on with: this server keeps no records")
        record = await record_of(self._talk, records, self._key.id, message.conversation_id, message.request_id)
        conversation = await self._talk.conversations.get(self._key.id, message.conversation_id)
        opened = await self._open(message, conversation)
        await send_missed(records, record, message.from_frame, opened.coding, self._send)
        if can_go_on(record) and is_last_turn(record, conversation):
            await self._go_on(record, len(conversation.turns) - 1, opened)
        else:
            await self._send(ended(record))

    async def _go_on(self, record: Record, turn: int, opened: Opened) -> None:
        _, text = await opened.live()
        scene, before = gone_on(record, text)
        resumed = Resumed(
            request_id=record.request_id,
            turn=turn,
            next_frame=record.num_frames,
            received_chars=text.num_chars,
            is_complete=text.is_closed,
        )
        await self._send(resumed)
        self._speak(opened, scene, text, record.request_id, before)

    async def _speaking(self, opened: Opened) -> TurnSpeaker:
        """The turn that speaks, or a new one."""
        if self._speaker is None or self._speaker.task.done():
            return self._speak(opened, *await opened.live(), uuid.uuid4().hex)
        return self._speaker

    def _speak(
        self, opened: Opened, scene: Scene, text: LiveText, request_id: str, before: Before | None = None
    ) -> TurnSpeaker:
        call = Call(request_id, self._key, is_streamed=True)
        self._speaker = TurnSpeaker(self._talk, opened, scene, text, call, self._send, before)
        self._speaker.task.add_done_callback(self._report)
        return self._speaker

    async def _cancel(self, played_ms: float | None) -> None:
        if self._speaker is None:
            raise InvalidRequest("type", "cancel has nothing to stop: no turn was begun on this socket")
        self._speaker.text.forget()
        await self._send(await self._speaker.interrupt(played_ms))
        self._speaker = None

    async def _hear(self, message: Heard, opened: Opened) -> None:
        clip = AskedClip(message.text, message.speaker, message.audio)
        (source,) = context_of([clip], self._settings.limits)
        number, turn = await self._talk.hear(self._key, opened.conversation.id, source)
        await self._send(HeardTurn(turn=number, frames=turn.num_frames))

    async def _prepare(self, opened: Opened) -> None:
        """Beside the socket's messages. A busy server leaves the reading to the turn itself."""
        with suppress(Overloaded):
            scene, _ = await opened.live()
            positions = await self._talk.prepare(self._key, opened.conversation.id, scene)
            await self._send(Prepared(prompt_positions=positions))

    async def _tell(self, error: CsmServeError) -> None:
        await self._send(failed(error))

    def _report(self, task: "asyncio.Task[None]") -> None:
        """A turn that failed says so; one that was cancelled has been answered."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CsmServeError):
            self._beside = asyncio.create_task(self._tell(error))
