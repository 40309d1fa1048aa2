"""All of ElevenLabs' dialect."""

from fastapi import APIRouter

from serve_app.api.elevenlabs.catalogue import catalogue_router
from serve_app.api.elevenlabs.speech import ElevenLabsSpeech
from serve_app.api.elevenlabs.stream_input import StreamInput
from serve_app.api.places import Places
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService


def elevenlabs_router(speech: SpeechService, settings: Settings, sockets: Places) -> APIRouter:
    router = APIRouter()
    router.include_router(ElevenLabsSpeech(speech, settings).router())
    router.include_router(StreamInput(speech, settings, sockets).router())
    router.include_router(catalogue_router(speech, settings))
    return router
