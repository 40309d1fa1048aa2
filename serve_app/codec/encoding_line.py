"""Clips that wait for the encoder, gathered into passes in fair turns of their owners, by seconds of audio."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from serve_app.messages import SAMPLE_RATE_HZ, Codes
from serve_app.shares import Line

MAX_CLIPS_PER_PASS = 8
_PASS_BYTES = 30 * 2 * SAMPLE_RATE_HZ
"""A pass that holds so much takes no more clips. Longer ones would make the other owners wait and gain nothing."""
_GATHER_SECONDS = 0.002
_MAX_WAITING = 128
_MAX_WAITING_OF_OWNER = 48


@dataclass(slots=True, eq=False)
class WaitingClip:
    pcm: bytes
    owner: str
    codes: "asyncio.Future[Codes]"


class EncodingLine:
    """`encode_pass` gives the codes of the clips of one pass, in order. One event loop uses it."""

    def __init__(self, encode_pass: Callable[[Sequence[WaitingClip]], Awaitable[list[Codes]]]) -> None:
        self._encode_pass = encode_pass
        self._line: Line[WaitingClip] = Line("clips wait to be encoded", _MAX_WAITING, _MAX_WAITING_OF_OWNER)
        self._working: asyncio.Task[None] | None = None

    async def encoded(self, pcm: bytes, owner: str) -> Codes:
        """Raises Overloaded where too many clips wait, and what the pass raises."""
        clip = WaitingClip(pcm, owner, asyncio.get_running_loop().create_future())
        self._line.join(owner, clip)
        try:
            if self._working is None or self._working.done():
                self._working = asyncio.create_task(self._work())
            return await clip.codes
        finally:
            self._line.leave(owner, clip)

    async def _work(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        while clips := self._next_pass():
            encoding = asyncio.ensure_future(self._encode_pass(clips))
            await asyncio.wait({encoding})
            error = encoding.exception()
            for number, clip in enumerate(clips):
                if clip.codes.done():  # its caller has left
                    continue
                if error is not None:
                    clip.codes.set_exception(error)
                else:
                    clip.codes.set_result(encoding.result()[number])

    def _next_pass(self) -> list[WaitingClip]:
        clips: list[WaitingClip] = []
        while len(clips) < MAX_CLIPS_PER_PASS and sum(len(clip.pcm) for clip in clips) < _PASS_BYTES:
            if (found := self._line.next()) is None:
                break
            owner, clip = found
            self._line.shares.charge(owner, len(clip.pcm) / (2 * SAMPLE_RATE_HZ))
            clips.append(clip)
        return clips
