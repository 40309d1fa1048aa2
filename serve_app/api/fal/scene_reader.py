"""From a request's body to a scene that can be spoken or queued: the same on every surface."""

from typing import Any

from starlette.requests import HTTPConnection, Request

from serve_app.api.fal.preferences import kept_seconds
from serve_app.api.fal.schema import FalInput, asked, parse, validated
from serve_app.api.fal.ways import Surface, way_of
from serve_app.settings import Settings
from serve_app.speech.build import build_scene
from serve_app.speech.scene import AnswerFile, Scene
from serve_app.speech.service import SpeechService


class SceneReader:
    def __init__(self, speech: SpeechService, settings: Settings) -> None:
        self._speech = speech
        self._settings = settings

    async def read(self, request: Request) -> Scene:
        """Raises RequestValidationError for a body of another shape, InvalidRequest for one beyond the limits."""
        return await self._scene(parse(await request.body()), request)

    async def from_message(self, values: dict[str, Any], connection: HTTPConnection) -> Scene:
        """The same for a message of an open connection."""
        return await self._scene(validated(values), connection)

    async def _scene(self, body: FalInput, connection: HTTPConnection) -> Scene:
        cdn = way_of(connection).url(Surface.CDN, "")
        file = AnswerFile(cdn, body.output_format, kept_seconds(connection.headers))
        scene = build_scene(asked(body, file), await self._speech.info(), self._settings)
        return await self._speech.context.locate(scene, cdn)
