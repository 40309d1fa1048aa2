"""Turns a request's body into a scene to speak or queue, the same way on every surface."""

from dataclasses import replace
from typing import Any

from starlette.requests import HTTPConnection, Request

from serve_app.api.auth import key_of
from serve_app.api.fal.errors import add_headers
from serve_app.api.fal.preferences import kept_seconds
from serve_app.api.fal.schema import FalInput, asked, parse, validated
from serve_app.api.fal.ways import Surface, way_of
from serve_app.api.notices import text_headers, weights_headers
from serve_app.settings import Settings
from serve_app.speech.scene import AnswerFile, Scene
from serve_app.speech.service import SpeechService


class SceneReader:
    def __init__(self, speech: SpeechService, settings: Settings) -> None:
        self._speech = speech
        self._settings = settings

    async def read(self, request: Request, is_job: bool = False) -> Scene:
        """Raises RequestValidationError for a wrong shape, InvalidRequest for values beyond the limits."""
        return await self._scene(parse(await request.body(), self._settings.limits), request, is_job)

    async def from_message(self, values: dict[str, Any], connection: HTTPConnection) -> Scene:
        """The scene in a message of an open connection. Raises as `read`."""
        return await self._scene(validated(values, self._settings.limits), connection)

    async def _scene(self, body: FalInput, connection: HTTPConnection, is_job: bool = False) -> Scene:
        cdn = way_of(connection).url(Surface.CDN, "")
        file = AnswerFile(cdn, body.output_format, kept_seconds(connection.headers), body.sample_rate)
        wanted = replace(asked(body, file), is_job=is_job)
        scene = await self._speech.scene(wanted, self._settings, key_of(connection))
        add_headers(connection, weights_headers(await self._speech.info(), scene.remarks) | text_headers(scene.notices))
        return await self._speech.context.locate(scene, cdn)
