"""All of OpenAI's dialect."""

from fastapi import APIRouter, FastAPI, HTTPException

from serve_app.api.openai.catalogue import catalogue_router
from serve_app.api.openai.errors import PREFIX
from serve_app.api.openai.speech import OpenAiSpeech
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def openai_router(speech: SpeechService, settings: Settings) -> APIRouter:
    router = APIRouter()
    router.include_router(OpenAiSpeech(speech, settings).router())
    router.include_router(catalogue_router(speech))
    return router


def add_unknown_paths(app: FastAPI) -> None:
    """Have every other path under the prefix answered in OpenAI's words. Last, and not in the router."""
    app.add_api_route(f"{PREFIX}/{{rest:path}}", _unknown, methods=_METHODS, include_in_schema=False)


async def _unknown(rest: str) -> None:
    # Rendered in the dialect of the caller, which shares the prefix with others.
    raise HTTPException(404, f"nothing is served here: this server speaks at POST {PREFIX}/audio/speech")
