"""`fal.run`: a scene while its caller waits, whole or chunk by chunk."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve_app.api.auth import key_of
from serve_app.api.disconnect import until_disconnect
from serve_app.api.fal.errors import FalRoute, infra_errors, input_errors, request_id_of
from serve_app.api.fal.event_stream import EventStream, event
from serve_app.api.fal.live_scene import Call, LiveScene
from serve_app.api.fal.preferences import preferences_of
from serve_app.api.fal.scene_reader import SceneReader
from serve_app.api.fal.schema import INPUT_BODY, FalOutput, output_of
from serve_app.api.fal.ways import APP, PREFIX, Surface
from serve_app.api.health import weights_headers
from serve_app.api.services import Services
from serve_app.keys.key import Scope
from serve_app.messages import SAMPLE_RATE_HZ, AudioChunk
from serve_app.speech.pipeline import SpeechPipeline

_RUN = f"{PREFIX}/{Surface.RUN}{APP}"
_ERRORS = input_errors(413, 422) | infra_errors(401, 403, 404, 429, 500, 503, 504)
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Chunks of audio; the last event is the whole output."}
}


class RunApi:
    def __init__(self, reader: SceneReader, services: Services, pipeline: SpeechPipeline) -> None:
        self._reader = reader
        self._services = services
        self._pipeline = pipeline

    def router(self) -> APIRouter:
        router = APIRouter(route_class=FalRoute, tags=["fal"])
        add = router.add_api_route
        run: dict[str, Any] = {"methods": ["POST"], "openapi_extra": INPUT_BODY}
        whole: dict[str, Any] = run | {"response_model": FalOutput, "responses": _ERRORS}
        events: dict[str, Any] = run | {"response_class": Response, "responses": _EVENTS | _ERRORS}
        add(f"{_RUN}/stream", self.stream, **events)
        add(_RUN, self.run, **whole)
        add(f"{_RUN}/{{path:path}}", self.run, include_in_schema=False, **whole)
        return router

    async def run(self, request: Request) -> Response:
        """Speak a scene, and answer with its file once it is stored. Whoever leaves before cancels it."""
        scene, headers = await self._reader.read(request), await self._headers()
        async with (
            until_disconnect(request.receive),
            await LiveScene.open(self._services, scene, _call(request, is_streamed=False)) as live,
        ):
            return JSONResponse(output_of(await live.answer()), headers=headers)

    async def stream(self, request: Request) -> Response:
        """Speak a scene in server-sent events: 24 kHz PCM in base64 as it is made, then the whole output."""
        scene, headers = await self._reader.read(request), await self._headers()
        # The status waits for this: a refusal is raised here, and never after a 200.
        async with until_disconnect(request.receive):
            live = await LiveScene.open(self._services, scene, _call(request, is_streamed=True))
        return EventStream(_events(live), live, **headers)

    async def _headers(self) -> dict[str, str]:
        return weights_headers(await self._pipeline.info())


async def _events(live: LiveScene) -> AsyncGenerator[str, None]:
    index = 0
    async with aclosing(live.messages()) as messages:
        async for message in messages:
            if not isinstance(message, AudioChunk):
                yield event(output_of(message))
            elif message.pcm:
                yield event(chunk_content(message, index) | {"audio_chunk": base64.b64encode(message.pcm).decode()})
                index += 1


def chunk_content(chunk: AudioChunk, index: int) -> dict[str, Any]:
    """All but the sound, which is base64 in JSON and bytes in MessagePack."""
    return {"index": index, "turn": chunk.turn, "sample_rate": SAMPLE_RATE_HZ}


def _call(request: Request, is_streamed: bool) -> Call:
    key = key_of(request)
    key.require(Scope.SPEECH)
    return Call(
        request_id_of(request),
        key,
        is_streamed,
        preferences_of(request.headers).start_timeout_seconds,
        request.headers.get("traceparent", ""),
    )
