"""Speaks one turn of a socket while its text still comes, and sends what is made of it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from pydantic import BaseModel

from serve_app.api.realtime.messages import Audio, Began, Ended, Spoken, Word, Words
from serve_app.audio.encode.formats import Coding
from serve_app.errors import CsmServeError
from serve_app.messages import FRAME_RATE_HZ, AudioChunk
from serve_app.ports import WordAligner
from serve_app.speech.answer import Answer
from serve_app.speech.call import Call
from serve_app.speech.encoding import LiveEncoder
from serve_app.speech.live.text import LiveText
from serve_app.speech.scene import Scene
from serve_app.speech.talk import Talk

Send = Callable[[BaseModel], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Voice:
    """How the turns of a socket are spoken and sent."""

    conversation_id: str
    coding: Coding
    room_seconds: float
    aligner: WordAligner | None


class TurnSpeaker:
    """One turn. `text` is fed by its socket; `task` ends with the turn, and is cancelled to interrupt it."""

    def __init__(self, talk: Talk, voice: Voice, scene: Scene, text: LiveText, call: Call, send: Send) -> None:
        self.text = text
        self.request_id = call.request_id
        self.next_frame = 0
        """The first frame that was not sent."""
        self.turn: int | None = None
        self._talk = talk
        self._voice = voice
        self._aligner = voice.aligner
        self._scene = scene
        self._call = call
        self._send = send
        self._spoken_chars = 0
        self._part_pcm: list[bytes] = []
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
            turn = await conversations.cut(key.id, self._voice.conversation_id, self.turn, played_ms)
            heard = turn.heard_text
        return self._ended("cancelled", heard)

    async def _run(self) -> None:
        voice, talk = self._voice, self._talk
        if not await self.text.ready():
            await self._send(self._ended("eos"))
            return
        async with (
            talk.conversations.taken(self._call.key.id, voice.conversation_id, voice.room_seconds) as place,
            await talk.open(self._scene, self._call, place, self.text) as answer,
        ):
            self.turn = place.number
            seed, positions = answer.accepted.seed, answer.accepted.prompt_tokens
            began = Began(request_id=self.request_id, turn=place.number, seed=seed, prompt_positions=positions)
            await self._send(began)
            await self._stream(answer)
        await self._send(self._ended(str(answer.outcome.finish_reason)))

    async def _stream(self, answer: Answer) -> None:
        async with LiveEncoder(self._voice.coding) as encoder, aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                self._spoken_chars = chunk.spoken_chars
                if chunk.pcm and chunk.codes.num_frames:
                    self._part_pcm.append(chunk.pcm)
                if chunk.pcm:
                    data = await encoder.feed(chunk.pcm)
                    await self._send(self.audio(self.request_id, chunk.first_frame, chunk.num_frames, data))
                    self.next_frame = chunk.first_frame + chunk.num_frames
                elif chunk.part is not None:
                    await self._send(self._spoken(chunk))
                    self._align(chunk)
            if rest := await encoder.finish():
                await self._send(self.audio(self.request_id, self.next_frame, 0, rest))

    def _align(self, chunk: AudioChunk) -> None:
        """Times the words of the utterance that has ended, off the audio's path."""
        pcm, self._part_pcm = b"".join(self._part_pcm), []
        if self._aligner is None or chunk.utterance is None or chunk.part is None:
            return
        begins = chunk.part.first_frame / FRAME_RATE_HZ
        task = asyncio.create_task(self._send_words(self._aligner, pcm, chunk.utterance.text, begins))
        self._aligning.add(task)
        task.add_done_callback(self._aligning.discard)

    async def _send_words(self, aligner: WordAligner, pcm: bytes, text: str, begins: float) -> None:
        with suppress(CsmServeError):  # words are worth less than the audio, which goes on
            words = [
                Word(
                    text=word.text,
                    start_ms=round(1000 * (word.start_seconds + begins)),
                    end_ms=round(1000 * (word.end_seconds + begins)),
                    is_estimated=word.is_estimated,
                )
                for word in await aligner.align(pcm, text)
            ]
            await self._send(Words(request_id=self.request_id, words=words))

    @staticmethod
    def audio(request_id: str, first_frame: int, frames: int, data: bytes) -> Audio:
        encoded = base64.b64encode(data).decode()
        return Audio(request_id=request_id, first_frame=first_frame, frames=frames, audio=encoded)

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
