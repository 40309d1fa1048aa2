"""Speaks one turn of a socket while its text still comes, and sends what is made of it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

from pydantic import BaseModel

from serve_app.api.realtime.opening import Opened
from serve_app.api.realtime.outgoing import Audio, Began, Ended, Spoken, Word, Words
from serve_app.conversations.conversations import Place
from serve_app.messages import AudioChunk
from serve_app.speech.answer import Answer
from serve_app.speech.call import Before, Call
from serve_app.speech.encoding import LiveEncoder
from serve_app.speech.live.text import LiveText
from serve_app.speech.scene import Scene
from serve_app.speech.talk import Talk
from serve_app.speech.word_times import Find, PartWords

Send = Callable[[BaseModel], Awaitable[None]]


class TurnSpeaker:
    """One turn. `text` is fed by its socket; `task` ends with the turn, and is cancelled to interrupt it."""

    def __init__(
        self,
        talk: Talk,
        opened: Opened,
        scene: Scene,
        text: LiveText,
        call: Call,
        send: Send,
        before: Before | None = None,
    ) -> None:
        """before: of a turn whose socket was lost, and which is spoken on."""
        self.text = text
        self.request_id = call.request_id
        self.next_frame = before.broken_off.num_frames if before and before.broken_off else 0
        """The first frame that was not sent."""
        self.turn: int | None = None
        self._before = before
        self._talk = talk
        self._opened = opened
        self._words = PartWords(opened.aligner)
        self._scene = scene
        self._call = call
        self._send = send
        self._spoken_chars = 0
        self._aligning: set[asyncio.Task[None]] = set()
        self.task = asyncio.create_task(self._run())

    async def interrupt(self, played_ms: float | None) -> Ended:
        """Stop at once, free every slot, and cut the turn to what was heard."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        heard = None
        if played_ms is not None and self.turn is not None and self.next_frame:
            conversations, key = self._talk.conversations, self._call.key
            turn = await conversations.cut(key.id, self._opened.conversation.id, self.turn, played_ms)
            heard = turn.heard_text
        return self._ended("cancelled", heard)

    async def _run(self) -> None:
        talk, key = self._talk, self._call.key
        if not await self.text.ready():
            await self._send(self._ended("eos"))
            return
        async with (
            talk.conversations.taken(key.id, self._opened.conversation.id, await talk.room_seconds()) as place,
            await self._answer(place) as answer,
        ):
            if self._before is None:
                self.turn = place.number
                seed, positions = answer.accepted.seed, answer.accepted.prompt_tokens
                began = Began(request_id=self.request_id, turn=self.turn, seed=seed, prompt_positions=positions)
                await self._send(began)
            await self._stream(answer)
        await self._send(self._ended(str(answer.outcome.finish_reason)))

    async def _answer(self, place: Place) -> Answer:
        if self._before is not None:
            self.turn = place.number - 1
            return await self._talk.go_on(self._scene, self._before, self._call, place, self.text)
        return await self._talk.open(self._scene, self._call, place, self.text)

    async def _stream(self, answer: Answer) -> None:
        async with LiveEncoder(self._opened.coding) as encoder, aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                self._spoken_chars = chunk.spoken_chars
                find_words = self._words.take(chunk)
                if chunk.pcm:
                    data = await encoder.feed(chunk.pcm)
                    await self._send(audio_message(self.request_id, chunk.first_frame, chunk.num_frames, data))
                    self.next_frame = chunk.first_frame + chunk.num_frames
                elif chunk.part is not None:
                    await self._send(self._spoken(chunk))
                if find_words is not None:
                    self._tell_words(find_words)
            if rest := await encoder.finish():
                await self._send(audio_message(self.request_id, self.next_frame, 0, rest))

    def _tell_words(self, find: Find) -> None:
        task = asyncio.create_task(self._send_words(find))
        self._aligning.add(task)
        task.add_done_callback(self._aligning.discard)

    async def _send_words(self, find: Find) -> None:
        words = [
            Word(
                text=word.text,
                start_ms=round(1000 * word.start_seconds),
                end_ms=round(1000 * word.end_seconds),
                is_estimated=word.is_estimated,
            )
            for word in await find()
        ]
        if words:
            await self._send(Words(request_id=self.request_id, words=words))

    def _spoken(self, chunk: AudioChunk) -> Spoken:
        part = chunk.part
        assert part is not None, "asked for where a part ended"
        return Spoken(
            request_id=self.request_id,
            start_char=part.start_char,
            end_char=part.end_char,
            first_frame=part.first_frame,
            end_frame=part.end_frame,
        )

    def _ended(self, finish_reason: str, heard_text: str | None = None) -> Ended:
        return Ended(
            request_id=self.request_id,
            turn=self.turn if self.next_frame else None,
            finish_reason=finish_reason,
            frames=self.next_frame,
            spoken_chars=self._spoken_chars,
            heard_text=heard_text,
        )


def audio_message(request_id: str, first_frame: int, frames: int, data: bytes) -> Audio:
    encoded = base64.b64encode(data).decode()
    return Audio(request_id=request_id, first_frame=first_frame, frames=frames, audio=encoded)
