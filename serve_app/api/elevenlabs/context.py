"""One text of a socket: what was typed goes in, and messages with its speech come out."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from serve_app.align.characters import spoken_edges
from serve_app.api.elevenlabs.alignment import Aligned, seconds_of
from serve_app.api.elevenlabs.messages import SocketQuery, alignment_message, audio_message, final_message
from serve_app.audio.encode.formats import Coding
from serve_app.keys.key import Key
from serve_app.messages import AudioChunk, SpokenPart
from serve_app.speech.call import Call
from serve_app.speech.encoding import LiveEncoder
from serve_app.speech.live.boundaries import looks_ended
from serve_app.speech.live.text import LiveText
from serve_app.speech.scene import Scene
from serve_app.speech.service import SpeechService
from serve_app.speech.text.splitting import FEWEST_WORDS

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Context:
    """`speak` runs as a task of its owner. Cancelling it frees everything."""

    def __init__(self, scene: Scene, text: LiveText, coding: Coding, query: SocketQuery) -> None:
        self.is_open = True
        """Whether more text may come."""
        self.is_busy = False
        """Whether speech is under way, rather than waiting for text."""
        self._scene = scene
        self._text = text
        self._coding = coding
        self._query = query
        self._told_until = 0.0

    def feed(self, text: str, flush: bool) -> None:
        """Raises InvalidRequest where too much text waits."""
        self._text.feed(text)
        # In this mode a message is a sentence or a phrase; single words of a careless client are still gathered.
        is_phrase = self._query.auto_mode and (looks_ended(text) or len(text.split()) >= FEWEST_WORDS)
        if flush or is_phrase:
            self._text.flush()

    def end(self) -> None:
        """Speak what is left. No more text comes."""
        if self.is_open:
            self.is_open = False
            self._text.close()

    async def speak(self, speech: SpeechService, key: Key, send: Send) -> None:
        """Until all is spoken, and the last message is sent. Raises what `SpeechService.open` and an answer raise."""
        if await self._text.ready():
            self.is_busy = True
            coding = self._coding
            call = Call(uuid.uuid4().hex, key, is_streamed=True, is_lossy=coding.format.is_lossy, speed=coding.speed)
            async with (
                LiveEncoder(self._coding) as encoder,
                await speech.open(self._scene, call, self._text) as answer,
                aclosing(answer.chunks()) as chunks,
            ):
                async for chunk in chunks:
                    await self._send(chunk, encoder, send)
                if rest := await encoder.finish():
                    await send(audio_message(rest))
        await send(final_message())

    async def _send(self, chunk: AudioChunk, encoder: LiveEncoder, send: Send) -> None:
        self.is_busy = chunk.part is None
        if chunk.pcm and (audio := await encoder.feed(chunk.pcm)):
            await send(audio_message(audio))
        if chunk.part is not None:
            await send(self._aligned(chunk.part))

    def _aligned(self, part: SpokenPart) -> dict[str, Any]:
        start, end = seconds_of(part, self._coding.speed)
        # Clients that ask for `sync_alignment` count from the beginning of the text, others from message to message.
        since, self._told_until = (0.0 if self._query.sync_alignment else self._told_until), end
        typed, spoken = Aligned(), Aligned()
        for aligned, text in ((typed, self._text.typed_until(part.end_char)), (spoken, f"{part.text} ")):
            # Exact at both ends of the part. A socket waits for no aligner.
            aligned.add(text, spoken_edges(text, (), start - since, end - since))
        return alignment_message(typed, spoken)


async def cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until each has freed what it held."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
