"""Builds the HTTP API from the dialects."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from serve_app import __version__
from serve_app.api import error_responses
from serve_app.api.access_log import AccessLog
from serve_app.api.adapters import adapters_router
from serve_app.api.auth import Authentication
from serve_app.api.body_limit import BodyLimit
from serve_app.api.conversations import BODY_SCHEMAS as CONVERSATION_SCHEMAS
from serve_app.api.conversations import ConversationApi
from serve_app.api.elevenlabs.router import elevenlabs_router
from serve_app.api.elevenlabs.schema import BODY_SCHEMAS as ELEVENLABS_SCHEMAS
from serve_app.api.fal.router import SMALL, STREAMED, add_unknown_paths, fal_router
from serve_app.api.fal.schema import BODY_SCHEMAS as FAL_SCHEMAS
from serve_app.api.fal.surface import FalSurfaces
from serve_app.api.fal.tokens import FalTokens
from serve_app.api.fal.upload_parts import BODY_SCHEMAS as UPLOAD_SCHEMAS
from serve_app.api.fal.ways import FAL_HOSTS
from serve_app.api.health import health_router
from serve_app.api.jobs import JobsApi
from serve_app.api.kept_answers import KeptAnswers
from serve_app.api.key_pace import KeyPace
from serve_app.api.methods import HeadAndOptions
from serve_app.api.metrics_text import metrics_router
from serve_app.api.native import NativeApi
from serve_app.api.native_schema import BODY_SCHEMAS
from serve_app.api.openai import router as openai_router
from serve_app.api.openai.batch_schema import BODY_SCHEMAS as OPENAI_SCHEMAS
from serve_app.api.openapi import DOCS_ASSETS, add_keys, add_schemas
from serve_app.api.origin import PublicRedirects
from serve_app.api.pages import OwnPages
from serve_app.api.playground.router import playground_router
from serve_app.api.realtime.socket import SpeechSocket
from serve_app.api.scene_jobs import SceneJobs
from serve_app.api.services import Services
from serve_app.api.sockets import socket_places
from serve_app.api.unexpected_errors import UnexpectedErrors
from serve_app.api.voices import BODY_SCHEMAS as VOICE_SCHEMAS
from serve_app.api.voices import VoicesApi
from serve_app.keys.keys import Keys
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService


def build_api(
    speech: SpeechService,
    settings: Settings,
    metrics_text: Callable[[], Awaitable[str]] | None = None,
    keys: Keys | None = None,
    services: Services | None = None,
    is_draining: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """The whole HTTP API.

    `metrics_text` returns the text for Prometheus. Without `keys` no caller needs one. Without `services` there is no
    fal API. `is_draining`: whether this process ends once its connections are gone.
    """
    app = FastAPIOffline(
        title="CSM Serve",
        version=__version__,
        description="Conversational speech from CSM",
        static_url=DOCS_ASSETS,
    )
    app.include_router(playground_router())
    app.include_router(health_router(speech, settings))
    if metrics_text is not None:
        app.include_router(metrics_router(metrics_text))
    app.include_router(KeptAnswers(speech, settings).router())
    app.include_router(NativeApi(speech, settings).router())
    if speech.adapters is not None:
        app.include_router(adapters_router(speech, speech.adapters, settings))
    sockets = socket_places(settings.limits)
    # Before OpenAI's, which shares a path with it.
    app.include_router(elevenlabs_router(speech, settings, sockets))
    app.include_router(openai_router.openai_router(speech, settings, services))
    if services is not None:
        app.include_router(ConversationApi(speech, services.talk, settings).router())
        app.include_router(SpeechSocket(speech, services.talk, settings, sockets, is_draining).router())
        jobs = SceneJobs(services.models.own, services.files, settings.jobs)
        app.include_router(JobsApi(services.queue, jobs).router())
        app.include_router(VoicesApi(services.voices, speech, settings).router())
        app.include_router(fal_router(services, settings, sockets, keys))
        add_unknown_paths(app)
    openai_router.add_unknown_paths(app)
    error_responses.install(app)
    schemas = BODY_SCHEMAS | CONVERSATION_SCHEMAS | VOICE_SCHEMAS | OPENAI_SCHEMAS | ELEVENLABS_SCHEMAS
    add_schemas(app, schemas | FAL_SCHEMAS | UPLOAD_SCHEMAS)
    if keys is not None:
        add_keys(app)
    # The last one added is the outermost, so errors inside are answered with CORS headers too.
    app.add_middleware(HeadAndOptions)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes, streamed=STREAMED, small=SMALL)
    app.add_middleware(KeyPace, limits=settings.limits)
    # Runs after path rewriting, since the path decides whether a key is needed, and before any body is read.
    tokens = [] if keys is None or services is None else [FalTokens(services.tokens, keys)]
    app.add_middleware(Authentication, keys=keys, others=tokens)
    app.add_middleware(FalSurfaces, public_url=settings.public_url)
    app.add_middleware(PublicRedirects, public_url=settings.public_url)
    app.add_middleware(UnexpectedErrors)
    if keys is None and not settings.keys.open:
        host = urlsplit(settings.public_url or "").hostname or ""
        names = {*FAL_HOSTS, host, f"queue.{host}"}
        app.add_middleware(OwnPages, allowed_names=names, allowed_pages=settings.allowed_pages)
    # Pages of other origins may call, as with vox-serve: there are no cookies to protect. Without keys,
    # `OwnPages` refuses the pages of strangers.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["*"],
        allow_private_network=True,
    )
    app.add_middleware(AccessLog)
    return app
