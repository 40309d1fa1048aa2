"""What clients list before they speak: models and voices."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serve_app.api.auth import key_of
from serve_app.api.models import Models
from serve_app.api.openai.errors import PREFIX, content, documented
from serve_app.api.openai.voices import listed_voices
from serve_app.speech.service import SpeechService

_OURS = ("csm-1b", "sesame/csm-1b")
_THEIRS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names that clients will not do without. This application's own model answers to each."""
_CREATED = 1_741_824_000
"""CSM-1B was published on 2025-03-13."""


def catalogue_router(models: Models) -> APIRouter:
    router = APIRouter(tags=["openai"])
    speech = models.own.speech

    async def names() -> list[str]:
        return [*await own_names(speech), *models.others]

    @router.get(f"{PREFIX}/models", responses=documented(401, 503))
    async def listed() -> dict[str, Any]:
        """The names that this server's models go by."""
        return {"object": "list", "data": list(map(_model, await names()))}

    @router.get(f"{PREFIX}/models/{{model:path}}", responses=documented(401, 404, 422, 503))
    async def model(model: str) -> Any:
        """One of these names."""
        if model in await names():
            return _model(model)
        message = f"this server has no model of that name: GET {PREFIX}/models lists those it has"
        return JSONResponse(content(404, message, "model", "model_not_found"), 404)

    @router.get(f"{PREFIX}/audio/models", responses=documented(401, 503))
    async def audio_models() -> dict[str, Any]:
        """The same names, where Open WebUI looks for them."""
        return {"object": "list", "models": list(map(_model, await names()))}

    @router.get(f"{PREFIX}/audio/voices", responses=documented(401, 422))
    async def voices(request: Request, legacy: str = "") -> dict[str, Any]:
        """The voices, kept ones first: `legacy=true` lists their ids alone, as some clients expect."""
        kept = await speech.voices.all(key_of(request).id) if speech.voices else []
        found = [{"id": voice.id, "name": voice.name, "kept": True} for voice in kept] + listed_voices()
        if legacy.lower() in ("1", "true"):
            return {"voices": [voice["id"] for voice in found]}
        return {"object": "list", "voices": found, "data": found}

    return router


async def own_names(speech: SpeechService) -> list[str]:
    """What this application's own model may be called."""
    served = (await speech.info()).model
    return list(dict.fromkeys((served, *_OURS, *_THEIRS)))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "csm-serve"}
