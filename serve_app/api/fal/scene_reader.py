"""From a request's body to a scene that can be spoken or queued: the same checks on every surface."""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request

from serve_app.api.fal.preferences import kept_seconds
from serve_app.api.fal.schema import FalInput, parse, scene_of, validated
from serve_app.api.fal.ways import Surface, way_of
from serve_app.errors import DownloadFailed, UnknownFile
from serve_app.settings import Settings
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.scene import ContextSource, FileAudio, SceneFile, SceneInput, UrlAudio
from serve_app.speech.scene_work import Fetcher
from serve_app.store.files import FileStore

_OUR_FILE = re.compile(r"/files/([\w-]{32})/[^/]*$", re.ASCII)


class SceneReader:
    def __init__(self, pipeline: SpeechPipeline, files: FileStore, net: Fetcher, settings: Settings) -> None:
        self._pipeline = pipeline
        self._files = files
        self._net = net
        self._settings = settings

    async def read(self, request: Request) -> SceneInput:
        """Raises RequestValidationError for a body of another shape, InvalidRequest for one beyond the limits."""
        return await self._scene(parse(await request.body()), request)

    async def from_message(self, values: dict[str, Any], connection: HTTPConnection) -> SceneInput:
        """The same for a message of an open connection."""
        return await self._scene(validated(values), connection)

    async def _scene(self, body: FalInput, connection: HTTPConnection) -> SceneInput:
        cdn = way_of(connection).url(Surface.CDN, "")
        file = SceneFile(cdn, body.output_format, kept_seconds(connection.headers))
        scene = scene_of(body, file, await self._pipeline.info(), self._settings)
        items = [await self._located(number, item, cdn) for number, item in enumerate(scene.context)]
        return scene.with_context(tuple(items))

    async def _located(self, number: int, item: ContextSource, cdn: str) -> ContextSource:
        if not isinstance(item.audio, UrlAudio):
            return item
        field, url = f"context.{number}.audio_url", item.audio.url
        if file_id := await self._our_file(field, url, cdn):
            return replace(item, audio=FileAudio(file_id))
        self._net.check_url(field, url)
        return item

    async def _our_file(self, field: str, url: str, cdn: str) -> str | None:
        """Read from the store, whatever host the URL names: ids cannot be guessed, and we may not reach ourselves."""
        try:
            match = _OUR_FILE.search(urlsplit(url).path)
        except ValueError:
            return None  # `check_url` says what is wrong with it
        if match is None:
            return None
        try:
            await self._files.info(match[1])
        except UnknownFile:
            if url.startswith(f"{cdn}/"):
                raise DownloadFailed(field, "no such file is kept here, or not any more: upload it again") from None
            return None
        return match[1]
