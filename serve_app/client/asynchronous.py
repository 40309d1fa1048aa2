"""The client for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from serve_app.client import calls
from serve_app.client.calls import Call, Said
from serve_app.client.errors import ClientError, StreamBroken, error_of
from serve_app.client.sending import Retries, key_sender, unreachable, usual_timeout
from serve_app.client.values import Clip, Job, Outcome, Speech, SpeechOptions, Voice

T = TypeVar("T")
_POLL_SECONDS = 0.5


class AsyncSpeechStream:
    """Iterates over the audio while it is made. Leave its block, or cancel the task, to cancel the rest."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.request_id = response.headers["X-CSM-Request-Id"]
        self.seed = int(response.headers["X-CSM-Seed"])
        self.sample_rate = int(response.headers.get("X-CSM-Sample-Rate", 24000))
        self.notices = calls.notices_of(response)
        is_pcm = response.headers["Content-Type"].startswith("audio/pcm")
        self._cut = calls.WholeSamples().of if is_pcm else bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises StreamBroken if the speech ends too early."""
        try:
            async for piece in self._response.aiter_raw():
                if data := self._cut(piece):
                    yield data
        except httpx.TransportError as error:
            raise StreamBroken(f"the stream of request {self.request_id} broke off: {error}") from error


class AsyncClient:
    """As `Client`, for asyncio. Every method raises ClientError or one of its kinds.

    key: `ID:SECRET`, where the server requires keys. most_retries: of a request that the server refuses for now.
    """

    def __init__(self, base_url: str = "http://localhost:8000", key: str | None = None, most_retries: int = 4) -> None:
        self.base_url = base_url.rstrip("/")
        self._retries = Retries(most_retries)
        self._http = httpx.AsyncClient(
            base_url=self.base_url, auth=key_sender(self.base_url, key), timeout=usual_timeout()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def speak(
        self, said: Said, speaker: int = 0, context: Sequence[Clip] = (), **options: Unpack[SpeechOptions]
    ) -> Speech:
        """The whole answer to a text, or to the turns of a scene."""
        return await self._run(calls.speak(calls.speech_body(said, speaker, context, options)))

    @asynccontextmanager
    async def stream(
        self, said: Said, speaker: int = 0, context: Sequence[Clip] = (), **options: Unpack[SpeechOptions]
    ) -> AsyncIterator[AsyncSpeechStream]:
        """The same while it is made: signed 16 bit PCM, or what `format` says."""
        body = calls.speech_body(said, speaker, context, options) | {"streaming": True}
        response = await self._tried(lambda: self._opened(body | {"format": options.get("format", "pcm")}))
        try:
            yield AsyncSpeechStream(response)
        finally:
            await response.aclose()

    async def outcome(self, request_id: str) -> Outcome:
        """How a request of the last ten minutes ended."""
        return await self._run(calls.outcome(request_id))

    async def voices(self) -> list[Voice]:
        return await self._run(calls.voices())

    async def info(self) -> dict[str, Any]:
        """The model, the limits and the default sampling."""
        return await self._run(calls.info())

    async def submit(
        self, said: Said, speaker: int = 0, context: Sequence[Clip] = (), **options: Unpack[SpeechOptions]
    ) -> Job:
        """Queue a scene. It ends also if this program does not wait for it."""
        return await self.job((await self._run(calls.submit(calls.speech_body(said, speaker, context, options)))).id)

    async def jobs(self, limit: int = 100) -> list[Job]:
        """The jobs of this key, newest first."""
        return await self._run(calls.jobs(limit))

    async def job(self, job_id: str) -> Job:
        return await self._run(calls.job(job_id))

    async def wait(self, job_id: str, timeout_seconds: float | None = None) -> Job:
        """The job once it has ended, or as it is when the time is over."""
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not (job := await self.job(job_id)).has_ended and (end is None or time.monotonic() < end):
            await asyncio.sleep(_POLL_SECONDS)
        return job

    async def audio(self, job: Job) -> bytes:
        """What a completed job has spoken. Raises JobFailed if it has not."""
        return await self._run(calls.audio(job))

    async def cancel(self, job_id: str) -> Job:
        return await self._run(calls.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        """A new job with the input of one that has failed."""
        return await self._run(calls.retry(job_id))

    async def _run(self, call: Call[T]) -> T:
        return call.read(await self._tried(lambda: self._sent(call)))

    async def _tried(self, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        num_tried = 1
        while True:
            try:
                return await send()
            except ClientError as error:
                pause = self._retries.pause_before_next(error, num_tried)
                if pause is None:
                    raise
            await asyncio.sleep(pause)
            num_tried += 1

    async def _sent(self, call: Call[Any]) -> httpx.Response:
        try:
            response = await self._http.request(call.method, call.path, json=call.json)
        except httpx.TransportError as error:
            raise unreachable(error, self.base_url) from error
        if response.is_error:
            raise error_of(response)
        return response

    async def _opened(self, body: dict[str, Any]) -> httpx.Response:
        request = self._http.build_request("POST", "/generate", json=body)
        try:
            response = await self._http.send(request, stream=True)
            if response.is_error:
                await response.aread()
        except httpx.TransportError as error:
            raise unreachable(error, self.base_url) from error
        if response.is_error:
            raise error_of(response)
        return response
