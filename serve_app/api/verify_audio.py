"""`POST /v1/audio/verify`: whether a recording carries this server's watermark."""

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from serve_app.api.auth import key_of
from serve_app.api.openai.errors import PREFIX, documented
from serve_app.audio.read import read_recording
from serve_app.audio.watermark.mark import Watermark
from serve_app.errors import InvalidRequest
from serve_app.keys.key import Scope
from serve_app.settings import Settings

_FORM = "multipart/form-data"


def verify_router(watermark: Watermark | None, settings: Settings) -> APIRouter:
    router = APIRouter(tags=["server"])

    @router.post(f"{PREFIX}/audio/verify", responses=documented(400, 401, 403, 413, 429), openapi_extra=_BODY)
    async def verify(request: Request) -> dict[str, Any]:
        """Whether the recording `file` was spoken by a server with this server's watermark and key."""
        key = key_of(request, Scope.SPEECH)
        if watermark is None:
            raise InvalidRequest("watermark", "is off on this server: its operator sets watermark.use")
        data = await _file(request)
        read = partial(read_recording, "file", data, settings.limits.max_context_seconds, key.id)
        recording = await asyncio.to_thread(read)
        found = await asyncio.to_thread(watermark.find, recording.pcm)
        return {"watermarked": found.is_marked, "confidence": round(found.confidence, 3), "watermark": watermark.name}

    return router


async def _file(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith(_FORM):
        return await request.body()
    try:
        async with request.form(max_files=1) as form:
            file = form.get("file")
            if isinstance(file, UploadFile):
                return await file.read()
    except HTTPException:
        pass
    raise InvalidRequest("file", "is missing: send the recording as the form's file, or as the body")


_BINARY = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {"schema": {"type": "object", "properties": {"file": _BINARY}}},
            "application/octet-stream": {"schema": _BINARY},
        },
    }
}
