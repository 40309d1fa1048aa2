"""Speech on the account of a key."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from serve_app.keys.key import Key
from serve_app.keys.limits import Allowance
from serve_app.messages import FRAME_RATE_HZ, Accepted, AudioChunk
from serve_app.speech.request import SpeechRequest


async def charged(
    speech: AsyncGenerator[Accepted | AudioChunk, None], request: SpeechRequest, key: Key, allowance: Allowance
) -> AsyncGenerator[Accepted | AudioChunk, None]:
    """The same messages, taken from the allowance of `key`: the longest it can become at first, in the end what was
    spoken. Raises LimitReached before the first message."""
    async with aclosing(speech), allowance.take(key, request.longest_seconds) as taken:
        async for message in speech:
            if isinstance(message, AudioChunk):
                taken.settle((message.first_frame + message.codes.num_frames) / FRAME_RATE_HZ)
            yield message
