"""The client for programs without asyncio."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


class SpeechStream:
    """Iterates over the audio while it is made. Leave its `with` block to cancel the rest."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.request_id = response.headers["X-CSM-Request-Id"]
        self.seed = int(response.headers["X-CSM-Seed"])
        self.sample_rate = int(response.headers.get("X-CSM-Sample-Rate", 24000))
        self.notices = calls.notices_of(response)
        is_pcm = response.headers["Content-Type"].startswith("audio/pcm")
        self._cut = calls.WholeSamples().of if is_pcm else bytes

    def __iter__(self) -> Iterator[bytes]:
        """Raises StreamBroken if the speech ends too early."""
        try:
            for piece in self._response.iter_raw():
                if data := self._cut(piece):
                    yield data
        except httpx.TransportError as error:
            raise StreamBroken(f"the stream of request {self.request_id} broke off: {error}") from error


class Client:
    """Speaks to one server. Every method raises ClientError or one of its kinds.

    key: `ID:SECRET`, where the server requires keys. most_retries: of a request that the server refuses for now.
    """

    def __init__(self, base_url: str = "http://localhost:8000", key: str | None = None, most_retries: int = 4) -> None:
        self.base_url = base_url.rstrip("/")
        self._retries = Retries(most_retries)
        sender = key_sender(self.base_url, key)
        self._http = httpx.Client(base_url=self.base_url, auth=sender, timeout=usual_timeout())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def speak(
        self, said: Said, speaker: int = 0, context: Sequence[Clip] = (), **options: Unpack[SpeechOptions]
    ) -> Speech:
        """The whole answer to a text, or to the turns of a scene."""
        return self._run(calls.speak(calls.speech_body(said, speaker, context, options)))

    @contextmanager
    def stream(
        self, said: Said, speaker: int = 0, context: Sequence[Clip] = (), **options: Unpack[SpeechOptions]
    ) -> Iterator[SpeechStream]:
        """The same while it is made: signed 16 bit PCM, or what `format` says."""
        body = calls.speech_body(said, speaker, context, options) | {"streaming": True}
        response = self._tried(lambda: self._opened(body | {"format": options.get("format", "pcm")}))
        try:
            yield SpeechStream(response)
        finally:
            response.close()

    def outcome(self, request_id: str) -> Outcome:
        """How a request of the last ten minutes ended."""
        return self._run(calls.outcome(request_id))

    def voices(self) -> list[Voice]:
        return self._run(calls.voices())

    def info(self) -> dict[str, Any]:
        """The model, the limits and the default sampling."""
        return self._run(calls.info())

    def submit(
        self, said: Said, speaker: int = 0, context: Sequence[Clip] = (), **options: Unpack[SpeechOptions]
    ) -> Job:
        """Queue a scene. It ends also if this program does not wait for it."""
        return self.job(self._run(calls.submit(calls.speech_body(said, speaker, context, options))).id)

    def jobs(self, limit: int = 100) -> list[Job]:
        """The jobs of this key, newest first."""
        return self._run(calls.jobs(limit))

    def job(self, job_id: str) -> Job:
        return self._run(calls.job(job_id))

    def wait(self, job_id: str, timeout_seconds: float | None = None) -> Job:
        """The job once it has ended, or as it is when the time is over."""
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not (job := self.job(job_id)).has_ended and (end is None or time.monotonic() < end):
            time.sleep(_POLL_SECONDS)
        return job

    def audio(self, job: Job) -> bytes:
        """What a completed job has spoken. Raises JobFailed if it has not."""
        return self._run(calls.audio(job))

    def cancel(self, job_id: str) -> Job:
        return self._run(calls.cancel(job_id))

    def retry(self, job_id: str) -> Job:
        """A new job with the input of one that has failed."""
        return self._run(calls.retry(job_id))

    def _run(self, call: Call[T]) -> T:
        return call.read(self._tried(lambda: self._sent(call)))

    def _tried(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        num_tried = 1
        while True:
            try:
                return send()
            except ClientError as error:
                pause = self._retries.pause_before_next(error, num_tried)
                if pause is None:
                    raise
            time.sleep(pause)
            num_tried += 1

    def _sent(self, call: Call[Any]) -> httpx.Response:
        try:
            response = self._http.request(call.method, call.path, json=call.json)
        except httpx.TransportError as error:
            raise unreachable(error, self.base_url) from error
        if response.is_error:
            raise error_of(response)
        return response

    def _opened(self, body: dict[str, Any]) -> httpx.Response:
        request = self._http.build_request("POST", "/generate", json=body)
        try:
            response = self._http.send(request, stream=True)
            if response.is_error:
                response.read()
        except httpx.TransportError as error:
            raise unreachable(error, self.base_url) from error
        if response.is_error:
            raise error_of(response)
        return response
