"""Encoders beside an event loop: costly work is done in threads."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from serve_app.audio.encode.encoder import encode_whole, open_encoder
from serve_app.audio.encode.formats import Coding

T = TypeVar("T")
# Not asyncio's own threads: long texts may keep those busy for seconds, and listeners must not wait for that.
_THREADS = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="encode")


async def encoded_whole(pcm: bytes, coding: Coding) -> bytes:
    """A complete file of `pcm`."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, encode_whole, pcm, coding)


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
            _THREADS.submit(self._locked, self._encoder.finish)

    async def feed(self, pcm: bytes) -> bytes:
        return await self._run(lambda: self._encoder.feed(pcm))

    async def finish(self) -> bytes:
        self._is_finished = True
        return await self._run(self._encoder.finish)

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._coding.is_costly:
            return work()
        return await asyncio.get_running_loop().run_in_executor(_THREADS, self._locked, work)

    def _locked(self, work: Callable[[], T]) -> T:
        with self._in_use:
            return work()
