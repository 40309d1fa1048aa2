"""The audio of a scene's context: inline, at a URL, or in a stored file."""

import asyncio
import re
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from serve_app.audio.clip import Recording
from serve_app.audio.read import read_recording
from serve_app.errors import DownloadFailed
from serve_app.settings import Settings
from serve_app.speech.files import SpeechFiles
from serve_app.speech.request import ContextClip
from serve_app.speech.scene import Audio, ContextSource, FileAudio, InlineAudio, Scene, UrlAudio

T = TypeVar("T")
_READ_AT_ONCE = 4
"""Clips of one request that are fetched and decoded."""
_READERS = ThreadPoolExecutor(96, "audio-reader")
"""More threads than `audio.read` lets wait: its queue is fair among keys, and that of a pool of threads is not."""
_OUR_FILE = re.compile(r"/files/([\w-]{32})/[^/]*$", re.ASCII)


class Fetcher(Protocol):
    """`net.guarded.GuardedClient` is one."""

    def check_url(self, field: str, url: str) -> None:
        """Check without network access. Raises InvalidRequest."""
        ...

    async def fetch(self, field: str, url: str, *, owner: str = "") -> bytes:
        """The bytes at `url`, for the key `owner`. Raises InvalidRequest, Overloaded, or DownloadFailed."""
        ...


class ContextAudio:
    def __init__(self, files: SpeechFiles, net: Fetcher, settings: Settings) -> None:
        self._files = files
        self._net = net
        self._max_seconds = settings.limits.max_context_seconds
        self._max_bytes = settings.net.max_download_bytes

    async def locate(self, scene: Scene, our_base_url: str) -> Scene:
        """The same scene, with URLs of our own files as stored files, and all other URLs checked.

        A stored file is recognised by its path, whatever host the URL names: ids cannot be guessed, and the server
        may not be able to reach itself. `our_base_url`: a URL below it must name a file that exists.
        Raises InvalidRequest and DownloadFailed.
        """
        located = [await self._located(_path(number), item, our_base_url) for number, item in enumerate(scene.context)]
        return scene.with_context(tuple(located))

    async def keep(self, scene: Scene, owner: str, seconds: float) -> Scene:
        """The same scene, with inline audio stored for at least `seconds`, so that a job's row stays small.

        Equal scenes give equal results. Raises errors of the file store.
        """
        kept = [await self._kept(item, owner, seconds) for item in scene.context]
        return scene.with_context(tuple(kept))

    async def clips(
        self, items: Sequence[ContextSource], owner: str
    ) -> tuple[tuple[ContextClip, ...], tuple[str, ...]]:
        """The context, fetched and decoded, and notices about the recordings.

        owner: the key that sends it; "" where all callers are one. Raises DownloadFailed, InvalidAudio, InvalidRequest,
        and Overloaded where too many clips wait to be decoded.
        """
        at_once = asyncio.Semaphore(_READ_AT_ONCE)
        sources = enumerate(items)
        recordings = await _all(self._recording(_path(number), item, owner, at_once) for number, item in sources)
        clips = tuple(
            ContextClip(item.text, item.speaker, recording.pcm)
            for item, recording in zip(items, recordings, strict=True)
        )
        notices = (
            f"context clip {number}: {notice}"
            for number, recording in enumerate(recordings, 1)
            for notice in recording.notices
        )
        return clips, tuple(notices)

    async def _located(self, path: str, item: ContextSource, our_base_url: str) -> ContextSource:
        if not isinstance(item.audio, UrlAudio):
            return item
        url = item.audio.url
        file_id = _file_id_in(url)
        if file_id is not None:
            if await self._files.exists(file_id):
                return replace(item, audio=FileAudio(file_id))
            if url.startswith(f"{our_base_url}/"):
                raise DownloadFailed(path, "no such file is stored here, or it has expired: upload it again")
        self._net.check_url(path, url)
        return item

    async def _kept(self, item: ContextSource, owner: str, seconds: float) -> ContextSource:
        if not isinstance(item.audio, InlineAudio):
            return item
        return replace(item, audio=await self._files.put_context(item.audio.data, owner, seconds))

    async def _recording(self, path: str, item: ContextSource, owner: str, at_once: asyncio.Semaphore) -> Recording:
        async with at_once:
            data = await self._bytes(path, item.audio, owner)
            work = partial(read_recording, path, data, self._max_seconds, owner)
            # Decoding on the event loop would stall every stream of this process.
            return await asyncio.get_running_loop().run_in_executor(_READERS, work)

    async def _bytes(self, path: str, audio: Audio, owner: str) -> bytes:
        if isinstance(audio, InlineAudio):
            return audio.data
        if isinstance(audio, UrlAudio):
            return await self._net.fetch(path, audio.url, owner=owner)
        return await self._files.read(path, audio.file_id, self._max_bytes)


def _path(number: int) -> str:
    return f"context[{number}].audio"


def _file_id_in(url: str) -> str | None:
    try:
        match = _OUR_FILE.search(urlsplit(url).path)
    except ValueError:
        return None  # `check_url` explains the error
    return match[1] if match else None


async def _all(work: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """All results in order. When one fails, the others are cancelled."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
