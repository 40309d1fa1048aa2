"""`fal.run`: speaks a scene while its caller waits, whole or chunk by chunk."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve_app.api.auth import key_of
from serve_app.api.fal.errors import FalRoute, infra_errors, input_errors, request_id_of
from serve_app.api.fal.preferences import preferences_of
from serve_app.api.fal.scene_reader import SceneReader
from serve_app.api.fal.schema import INPUT_BODY, FalOutput
from serve_app.api.fal.ways import APP, PREFIX, Surface
from serve_app.api.job_output import notices_of, output_of
from serve_app.api.streaming import EVENT_STREAM, StreamedAnswer, disconnect, event, while_connected
from serve_app.keys.key import Scope
from serve_app.messages import SAMPLE_RATE_HZ, AudioChunk
from serve_app.speech.answer import Answer
from serve_app.speech.call import Call
from serve_app.speech.scene import Scene
from serve_app.speech.service import SpeechService

_ERRORS = input_errors(413, 422) | infra_errors(401, 403, 404, 429, 500, 503, 504)
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Chunks of audio; the last event is the whole output."}
}


class RunApi:
    def __init__(self, reader: SceneReader, speech: SpeechService, app: str = APP) -> None:
        self._path = f"{PREFIX}/{Surface.RUN}{app}"
        self._reader = reader
        self._speech = speech

    def router(self) -> APIRouter:
        router = APIRouter(route_class=FalRoute, tags=["fal"])
        add = router.add_api_route
        run: dict[str, Any] = {"methods": ["POST"], "openapi_extra": INPUT_BODY}
        whole: dict[str, Any] = run | {"response_model": FalOutput, "responses": _ERRORS}
        events: dict[str, Any] = run | {"response_class": Response, "responses": _EVENTS | _ERRORS}
        add(f"{self._path}/stream", self.stream, **events)
        add(self._path, self.run, **whole)
        add(f"{self._path}/{{path:path}}", self.run, include_in_schema=False, **whole)
        return router

    async def run(self, request: Request) -> Response:
        """Speak a scene and answer with its stored file. The scene is cancelled if the client leaves."""
        call = _call(request)
        scene = await self._reader.read(request)
        async with (
            while_connected(partial(disconnect, request.receive)),
            await self._speech.open(scene, call) as answer,
        ):
            return JSONResponse(output_of(await answer.file(), notices_of(scene, answer)))

    async def stream(self, request: Request) -> Response:
        """Speak a scene in server-sent events: 24 kHz PCM in base64, then the whole output."""
        call = _call(request, is_streamed=True)
        scene = await self._reader.read(request)
        # The status waits for admission: a refusal is raised here, and never after a 200.
        async with while_connected(partial(disconnect, request.receive)):
            answer = await self._speech.open(scene, call)
        return StreamedAnswer(_events(scene, answer), EVENT_STREAM, answer)


async def _events(scene: Scene, answer: Answer) -> AsyncGenerator[str, None]:
    index = 0
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            if chunk.pcm:
                yield event(chunk_content(chunk, index) | {"audio_chunk": base64.b64encode(chunk.pcm).decode()})
                index += 1
    yield event(output_of(await answer.file(), notices_of(scene, answer)))


def chunk_content(chunk: AudioChunk, index: int) -> dict[str, Any]:
    """A chunk's fields except its audio, which is base64 in JSON and bytes in MessagePack."""
    return {"index": index, "turn": chunk.turn, "sample_rate": SAMPLE_RATE_HZ}


def _call(request: Request, is_streamed: bool = False) -> Call:
    return Call(
        request_id_of(request),
        key_of(request, Scope.SPEECH),
        is_streamed,
        start_timeout_seconds=preferences_of(request.headers).start_timeout_seconds,
        trace=request.headers.get("traceparent", ""),
    )
