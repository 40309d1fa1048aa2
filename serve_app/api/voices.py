"""`/voices` and `/voice-packs`: voices that a key keeps on this server."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve_app.api.auth import key_of
from serve_app.api.error_responses import documented
from serve_app.api.openapi import body_schemas, schema_ref
from serve_app.api.services import KeptVoices
from serve_app.api.voice_bodies import VoiceBody, read_upload, shown
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService
from serve_app.store.stored_file import ascii_name
from serve_app.voices.voice import NewVoice, Voice

_PACK = "application/octet-stream"


class VoicesApi:
    """The routes of kept voices. A voice of another key is unknown here."""

    def __init__(self, voices: KeptVoices, speech: SpeechService, settings: Settings) -> None:
        self._voices = voices
        self._speech = speech
        self._settings = settings

    def router(self) -> APIRouter:
        router = APIRouter(tags=["voices"])
        for path, route, method, statuses, extra in (
            ("/voices", self.add, "POST", (401, 403, 409, 413, 422, 429, 503), _UPLOAD),
            ("/voices", self.all, "GET", (401, 403, 503), {}),
            ("/voices/{voice}", self.show, "GET", (401, 403, 404, 503), {}),
            ("/voices/{voice}", self.remove, "DELETE", (401, 403, 404, 503), _NOTHING),
            ("/voices/{voice}/audition", self.audition, "POST", (401, 403, 404, 429, 503), {}),
            ("/voices/{voice}/pack", self.export, "GET", (401, 403, 404, 503), _PACK_ANSWER),
            ("/voice-packs", self.load, "POST", (401, 403, 409, 413, 422, 503), _PACK_BODY),
            ("/voice-packs/signer", self.signer, "GET", (401, 403), {}),
        ):
            router.add_api_route(path, route, methods=[method], responses=_packs(path) | documented(*statuses), **extra)
        return router

    async def add(self, request: Request) -> Response:
        """Keep a voice: recordings with their transcripts, and a statement of consent."""
        key = key_of(request, Scope.FILES)
        upload = await read_upload(request, self._settings.limits.max_body_bytes)
        if upload.voice.adapter is not None:
            await self._speech.find_adapter(upload.voice.adapter)
        voice = await added(self._voices, upload.voice, key, upload.has_audition)
        return JSONResponse(shown(voice), 201)

    async def all(self, request: Request) -> dict[str, Any]:
        """The voices of this key."""
        return {"voices": list(map(shown, await self._voices.library.all(key_of(request, Scope.SPEECH).id)))}

    async def show(self, request: Request, voice: str) -> dict[str, Any]:
        """One of them, by id or name."""
        return shown(await self._voices.library.find(voice, key_of(request, Scope.SPEECH).id))

    async def remove(self, request: Request, voice: str) -> Response:
        """Forget a voice, with its recordings and its statement of consent."""
        await self._voices.library.remove(voice, key_of(request, Scope.FILES).id)
        return Response(status_code=204)

    async def audition(self, request: Request, voice: str) -> dict[str, Any]:
        """Speak three sentences with it, and score them."""
        key = key_of(request, Scope.SPEECH)
        return shown(await self._voices.auditions.audition(await self._voices.library.find(voice, key.id), key))

    async def export(self, request: Request, voice: str) -> Response:
        """The voice as one signed file."""
        found, pack = await self._voices.packs.export(voice, key_of(request, Scope.FILES).id)
        name = f'attachment; filename="{ascii_name(found.name)}.csmvoice"'
        return Response(pack, media_type=_PACK, headers={"Content-Disposition": name, "Cache-Control": "no-store"})

    async def load(self, request: Request, name: str | None = None) -> Response:
        """Keep the voice of such a file. `name` gives it another name."""
        key = key_of(request, Scope.FILES)
        return JSONResponse(shown(await self._voices.packs.load(await request.body(), key.id, name)), 201)

    async def signer(self, request: Request) -> dict[str, str]:
        """The public key that this server signs packs with."""
        key_of(request, Scope.SPEECH, Scope.FILES)
        return {"signer": self._voices.packs.signer}


def _packs(path: str) -> dict[int | str, dict[str, Any]]:
    """What a route that answers with a file says of its success."""
    return {200: {"content": {_PACK: _BINARY}, "description": "The pack"}} if path.endswith("/pack") else {}


async def added(voices: KeptVoices, new: NewVoice, key: Key, has_audition: bool) -> Voice:
    """Keep the voice, and let it audition unless the caller or the key's scopes say no."""
    voice = await voices.library.add(new, key.id)
    if has_audition and Scope.SPEECH in key.scopes:
        return await voices.auditions.audition(voice, key)
    return voice


BODY_SCHEMAS = body_schemas(VoiceBody)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "audio": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "text": {"type": "array", "items": {"type": "string"}, "description": "The transcript of each file."},
        "consent": {"type": "string", "description": "How the person who is heard agreed."},
        "consent_by": {"type": "string", "description": "Who makes this statement."},
        "adapter": {"type": "string", "description": "Name of the adapter that speaks it."},
        "audition": {"type": "boolean"},
    },
}
_UPLOAD: dict[str, Any] = {
    "status_code": 201,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema_ref("VoiceBody")},
                "multipart/form-data": {"schema": _FORM},
            },
        }
    },
}
_PACK_BODY: dict[str, Any] = {
    "status_code": 201,
    "openapi_extra": {"requestBody": {"required": True, "content": {_PACK: _BINARY}}},
}
_NOTHING: dict[str, Any] = {"status_code": 204, "response_class": Response}
_PACK_ANSWER: dict[str, Any] = {"response_class": Response}
