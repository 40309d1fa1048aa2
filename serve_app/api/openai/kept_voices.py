"""`/v1/audio/voices`: voices that a key keeps, in OpenAI's words."""

from typing import Any

from fastapi import APIRouter, Request

from serve_app.api.auth import key_of
from serve_app.api.openai.errors import PREFIX, documented
from serve_app.api.services import KeptVoices
from serve_app.api.voice_bodies import read_upload
from serve_app.api.voices import added
from serve_app.keys.key import Scope
from serve_app.settings import Settings
from serve_app.voices.voice import Voice


def kept_voices_router(voices: KeptVoices, settings: Settings) -> APIRouter:
    router = APIRouter(tags=["openai"])
    path = f"{PREFIX}/audio/voices"

    @router.post(path, responses=documented(400, 401, 403, 409, 413, 429, 503))
    async def create(request: Request) -> dict[str, Any]:
        """Keep a voice: `name`, `audio_sample`, its transcript `text`, the statement `consent`, and `consent_by`."""
        key = key_of(request, Scope.FILES)
        upload = await read_upload(request, settings.limits.max_body_bytes)
        return listed(await added(voices, upload.voice, key, upload.has_audition))

    @router.get(f"{path}/{{voice}}", responses=documented(401, 403, 404, 503))
    async def retrieve(request: Request, voice: str) -> dict[str, Any]:
        """One of the voices that this key keeps."""
        return listed(await voices.library.find(voice, key_of(request, Scope.SPEECH).id))

    @router.delete(f"{path}/{{voice}}", responses=documented(401, 403, 404, 503))
    async def remove(request: Request, voice: str) -> dict[str, Any]:
        """Forget a voice."""
        key = key_of(request, Scope.FILES)
        found = await voices.library.find(voice, key.id)
        await voices.library.remove(found.id, key.id)
        return {"id": found.id, "object": "audio.voice.deleted", "deleted": True}

    return router


def listed(voice: Voice) -> dict[str, Any]:
    audition = {name: voice.report[name] for name in ("clips", "audition") if name in voice.report}
    return {
        "id": voice.id,
        "object": "audio.voice",
        "name": voice.name,
        "created_at": int(voice.created_at),
        **audition,
    }
