"""An answer in the format that its caller wants, encoded while it is spoken."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from serve_app.audio.encode.formats import Coding
from serve_app.speech.answer import Answer
from serve_app.speech.encoding import LiveEncoder


async def encoded(answer: Answer, coding: Coding) -> AsyncGenerator[bytes, None]:
    """The answer's bytes as they are made, a header first and alone. Raises what `Answer.chunks` raises."""
    async with LiveEncoder(coding) as encoder, aclosing(answer.chunks()) as chunks:
        if header := await encoder.feed(b""):
            yield header
        async for chunk in chunks:
            if chunk.pcm and (data := await encoder.feed(chunk.pcm)):
                yield data
        if rest := await encoder.finish():
            yield rest
