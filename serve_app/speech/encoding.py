"""Encoders beside an event loop: costly work is done in threads."""

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from serve_app.audio.encode.encoder import encode_whole, open_encoder
from serve_app.audio.encode.formats import Coding
from serve_app.speech.costly import ENCODING

T = TypeVar("T")
_closing: set[asyncio.Task[bytes]] = set()
"""The event loop keeps no reference to its tasks."""


async def encoded_whole(pcm: bytes, coding: Coding) -> bytes:
    """A complete file of `pcm`."""
    return await ENCODING.done(lambda: encode_whole(pcm, coding))


class LiveEncoder:
    """An encoder whose work is done in a thread where it is costly."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._in_use = threading.Lock()
        self._is_finished = False

    async def __aenter__(self) -> Self:
        self._encoder = await self._run(lambda: open_encoder(self._coding))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # FFmpeg's part holds up to a megabyte, which Python alone frees late. A call may still run.
        if not self._is_finished and self._coding.is_costly:
            closing = asyncio.create_task(self._run(self._encoder.finish))
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)

    async def feed(self, pcm: bytes) -> bytes:
        return await self._run(lambda: self._encoder.feed(pcm))

    async def finish(self) -> bytes:
        self._is_finished = True
        return await self._run(self._encoder.finish)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._coding.is_costly:
            return work()
        return await ENCODING.done(lambda: self._locked(work))

    def _locked(self, work: Callable[[], T]) -> T:
        with self._in_use:
            return work()
