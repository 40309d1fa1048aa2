"""All of OpenAI's dialect."""

from fastapi import APIRouter, FastAPI, HTTPException

from serve_app.api.models import Models
from serve_app.api.openai.batch import OpenAiBatches
from serve_app.api.openai.catalogue import catalogue_router
from serve_app.api.openai.errors import PREFIX
from serve_app.api.openai.kept_voices import kept_voices_router
from serve_app.api.openai.speech import OpenAiSpeech
from serve_app.api.services import Services
from serve_app.api.verify_audio import verify_router
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def openai_router(speech: SpeechService, settings: Settings, services: Services | None = None) -> APIRouter:
    """Without `services` there are no batches, no kept voices, and no models beside that of `speech`."""
    router = APIRouter()
    models = Models.only(speech) if services is None else services.models
    if services is not None:
        router.include_router(OpenAiBatches(services, settings).router())
    router.include_router(OpenAiSpeech(models, settings).router())
    router.include_router(catalogue_router(models))
    router.include_router(verify_router(speech.watermark, settings))
    if services is not None:
        router.include_router(kept_voices_router(services.voices, settings))
    return router


def add_unknown_paths(app: FastAPI) -> None:
    """Have every other path under the prefix answered in OpenAI's words. Last, and not in the router."""
    app.add_api_route(f"{PREFIX}/{{rest:path}}", _unknown, methods=_METHODS, include_in_schema=False)


async def _unknown(rest: str) -> None:
    # Rendered in the dialect of the caller, which shares the prefix with others.
    raise HTTPException(404, f"nothing is served here: this server speaks at POST {PREFIX}/audio/speech")
