"""Serves files at their public address, whole or in ranges."""

import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from serve_app.api.auth import key_of
from serve_app.api.fal.errors import FalRoute, infra_errors
from serve_app.api.fal.ways import PREFIX, Surface
from serve_app.api.places import Places
from serve_app.api.streaming import StreamedAnswer
from serve_app.errors import UnknownFile
from serve_app.keys.key import Scope
from serve_app.settings import LimitSettings
from serve_app.store.files import FileStore
from serve_app.store.stored_file import StoredFile

_FILE = f"{PREFIX}/{Surface.CDN}/files/{{file_id}}/{{name}}"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_SHOWN = ("audio/", "image/", "video/")
_MAX_CACHED_SECONDS = 86_400
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The file's bytes, in its own type."},
    206: {"description": "The part that `Range` asks for."},
    304: {"description": "`If-None-Match` names the current content."},
    416: {"description": "The range begins after the end."},
} | infra_errors(404, 429, 503)

_DELETED = infra_errors(401, 403, 404, 503)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from `start` up to `end`."""

    start: int
    end: int


class FilesApi:
    def __init__(self, files: FileStore, limits: LimitSettings) -> None:
        self._files = files
        self._downloads = Places("downloads", limits.max_downloads, limits.max_downloads_per_key)

    def router(self) -> APIRouter:
        router = APIRouter(route_class=FalRoute, tags=["files"])
        reading: dict[str, Any] = {"response_class": Response, "responses": _RESPONSES}
        router.add_api_route(_FILE, self.read, methods=["GET"], **reading)
        router.add_api_route(_FILE, self.delete, methods=["DELETE"], status_code=204, responses=_DELETED)
        router.add_api_route(_FILE, self.read, methods=["HEAD"], include_in_schema=False, **reading)
        return router

    async def delete(self, request: Request, file_id: str) -> Response:
        """Delete a file of this key. Its address answers 404 at once, and its bytes are deleted some minutes later."""
        key = key_of(request, Scope.FILES)
        file = await self._files.info(file_id)
        if file.owner != key.id:
            raise UnknownFile(file_id)
        await self._files.delete(file_id)
        return Response(status_code=204)

    async def read(self, request: Request, file_id: str) -> Response:
        """A stored file. Knowing its address permits reading it. Only the id counts; the name is for people."""
        file = await self._files.info(file_id)
        headers = _headers(file)
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        whole = ByteRange(0, file.size)
        span = _span(request, headers["ETag"], file.size) or whole
        if span.start >= span.end and span is not whole:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{file.size}"})
        headers["Content-Length"] = str(span.end - span.start)
        status = 200
        if span is not whole:
            status = 206
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=file.content_type)
        self._downloads.take(file.owner)
        held = AsyncExitStack()
        held.callback(self._downloads.give_back, file.owner)
        data = self._files.read(file_id, span.start, span.end)
        return StreamedAnswer(data, file.content_type, held, headers=headers, status=status)


def _span(request: Request, etag: str, size: int) -> ByteRange | None:
    """The requested range. None asks for the whole file: no range, an unknown form, or a range of older content."""
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if match is None or match[0] == "bytes=-" or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return ByteRange(max(size - int(last), 0), size) if int(last) else ByteRange(size, size)
    end = min(int(last) + 1, size) if last else size
    return None if last and int(last) < int(first) else ByteRange(int(first), end)


def _headers(file: StoredFile) -> dict[str, str]:
    # Users upload files. None of them may run as a page of this origin.
    shown = "inline" if file.content_type.startswith(_SHOWN) else "attachment"
    cached = _MAX_CACHED_SECONDS
    if file.expires_at is not None:
        cached = max(0, min(cached, int(file.expires_at - time.time())))
    return {
        "Accept-Ranges": "bytes",
        "ETag": file.etag,
        "Cache-Control": f"private, max-age={cached}, immutable",
        "Content-Disposition": f"{shown}; filename=\"{file.ascii_name}\"; filename*=UTF-8''{quote(file.name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
