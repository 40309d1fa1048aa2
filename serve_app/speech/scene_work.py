"""From a scene to the file of its answer: fetch the context, speak, store."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from serve_app.audio.read import read_clip
from serve_app.audio.wav import wav_file
from serve_app.errors import DownloadFailed, FileTooLarge, GenerationFailed, UnknownFile
from serve_app.keys.key import Key
from serve_app.keys.limits import Allowance
from serve_app.messages import FRAME_RATE_HZ, Accepted, AudioChunk, FinishReason
from serve_app.settings import Settings
from serve_app.speech.charged import charged
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import ContextClip, SpeechRequest
from serve_app.speech.scene import ContextSource, FileAudio, InlineAudio, SceneInput, UrlAudio
from serve_app.store.files import FileStore
from serve_app.store.stored_file import StoredFile

T = TypeVar("T")

MEDIA_TYPES = {"wav": "audio/wav"}
"""The formats that an answer's file can have."""


class Fetcher(Protocol):
    """`net.guarded.GuardedClient` is one."""

    def check_url(self, field: str, url: str) -> None:
        """Without asking the net. Raises InvalidRequest."""
        ...

    async def fetch(self, field: str, url: str) -> bytes:
        """Raises InvalidRequest, or DownloadFailed where there is nothing to be had."""
        ...


@dataclass(frozen=True, slots=True)
class SceneAnswer:
    """What became of a scene."""

    file: StoredFile
    url: str
    seed: int
    finish_reason: FinishReason
    audio_seconds: float
    inference_seconds: float
    """From the first fetch to the stored file."""


class SceneWork:
    """Holds what scenes need, whether they are answered at once or by a job."""

    def __init__(
        self,
        pipeline: SpeechPipeline,
        files: FileStore,
        net: Fetcher,
        allowance: Allowance,
        settings: Settings,
        secret: bytes,
    ) -> None:
        """`secret`: the same in all replicas, for good. Whoever knows it can tell the ids of files."""
        self._pipeline = pipeline
        self._files = files
        self._net = net
        self._allowance = allowance
        self._secret = secret
        self._max_seconds = settings.limits.max_context_seconds
        self._max_bytes = settings.net.max_download_bytes

    async def keep_inputs(self, scene: SceneInput, owner: str, seconds: float) -> SceneInput:
        """The same scene, its inline audio in files for at least `seconds`: for a job, whose row stays small.

        The same again gives the same again, so that a request that is sent twice is seen to be one. Raises what
        storing a file raises.
        """
        return scene.with_context(tuple([await self._kept(item, owner, seconds) for item in scene.context]))

    async def request(
        self,
        scene: SceneInput,
        request_id: str,
        *,
        priority: int = 0,
        is_streamed: bool = False,
        trace: str = "",
    ) -> SpeechRequest:
        """What the pipeline takes, the context fetched and decoded.

        Raises DownloadFailed, InvalidAudio or InvalidRequest with the item's `context.N.audio_url`.
        """
        arrived_at = time.monotonic()
        clips = await _all(self._clip(number, item) for number, item in enumerate(scene.context))
        return SpeechRequest(
            request_id=request_id,
            turns=scene.turns,
            context=tuple(clips),
            sampling=replace(scene.sampling, seed=scene.seed_for(request_id)),
            max_audio_seconds=scene.max_audio_seconds,
            is_streamed=is_streamed,
            priority=priority,
            arrived_at=arrived_at,
            trace=trace,
        )

    async def speak(
        self, scene: SceneInput, request: SpeechRequest, key: Key
    ) -> AsyncGenerator[Accepted | AudioChunk | SceneAnswer, None]:
        """What the pipeline yields, on the account of `key`, then the answer once its file is stored.

        To be closed like the pipeline's own stream. Raises what that raises, LimitReached before `Accepted`,
        GenerationFailed where the engine gave up, and what storing a file raises.
        """
        pcm: list[bytes] = []
        last: AudioChunk | None = None
        speech = charged(self._pipeline.stream(request), request, key, self._allowance)
        async with aclosing(speech) as messages:
            async for message in messages:
                if isinstance(message, AudioChunk):
                    last = message
                    pcm.append(message.pcm)
                yield message
        assert last is not None and last.finish is not None, "a stream ends with a chunk that carries finish"
        if last.finish in (FinishReason.ERROR, FinishReason.CANCELLED):
            raise GenerationFailed("the engine broke off before the scene was spoken")
        yield await self._answer(scene, request, key.id, b"".join(pcm), last)

    async def _answer(
        self, scene: SceneInput, request: SpeechRequest, owner: str, pcm: bytes, last: AudioChunk
    ) -> SceneAnswer:
        file = await self._files.put(
            wav_file(pcm),
            name=f"speech.{scene.file.format}",
            content_type=MEDIA_TYPES[scene.file.format],
            owner=owner,
            seconds=scene.file.kept_seconds,
            file_id=self._file_id("answer", request.request_id),
        )
        return SceneAnswer(
            file=file,
            url=f"{scene.file.url_base}{file.path}",
            seed=request.sampling.seed,
            finish_reason=last.finish or FinishReason.EOS,
            audio_seconds=last.first_frame / FRAME_RATE_HZ,
            inference_seconds=time.monotonic() - request.arrived_at,
        )

    async def _clip(self, number: int, item: ContextSource) -> ContextClip:
        field = f"context.{number}.audio_url"
        data = await self._bytes(field, item.audio)
        # Decoding audio would stall every stream of this loop.
        pcm = await asyncio.to_thread(read_clip, field, data, self._max_seconds)
        return ContextClip(item.text, item.speaker, pcm)

    async def _bytes(self, field: str, audio: InlineAudio | UrlAudio | FileAudio) -> bytes:
        if isinstance(audio, InlineAudio):
            return audio.data
        if isinstance(audio, UrlAudio):
            return await self._net.fetch(field, audio.url)
        try:
            return await self._files.read_all(audio.file_id, self._max_bytes)
        except UnknownFile:
            raise DownloadFailed(field, "the file is not here any more: upload it again") from None
        except FileTooLarge as error:
            raise FileTooLarge(field, error.message) from None

    async def _kept(self, item: ContextSource, owner: str, seconds: float) -> ContextSource:
        if not isinstance(item.audio, InlineAudio):
            return item
        file_id = self._file_id("input", owner, hashlib.sha256(item.audio.data).hexdigest())
        is_kept = False
        while not is_kept:  # one that is there already keeps its own end, which may be now
            await self._files.put(
                item.audio.data,
                name="context",
                content_type="application/octet-stream",
                owner=owner,
                seconds=seconds,
                file_id=file_id,
            )
            is_kept = await self._files.keep(file_id, seconds)
        return replace(item, audio=FileAudio(file_id))

    def _file_id(self, *of: str) -> str:
        """The same again for the same; nobody who knows what it is made of (a job's id, a clip) can tell it."""
        digest = hmac.digest(self._secret, "/".join(of).encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:24]).decode()


async def _all(work: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """In order; where one fails, the others are not waited for."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
