"""The routes of all of fal's surfaces."""

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from serve_app.api.fal.files import FilesApi
from serve_app.api.fal.queue import QueueApi
from serve_app.api.fal.realtime import RealtimeApi
from serve_app.api.fal.run import RunApi
from serve_app.api.fal.scene_reader import SceneReader
from serve_app.api.fal.tokens import TokenApi
from serve_app.api.fal.uploads import UploadsApi
from serve_app.api.fal.ways import APP, PREFIX, Surface, app_of
from serve_app.api.places import Places
from serve_app.api.services import Services
from serve_app.keys.keys import Keys
from serve_app.settings import Settings

STREAMED = (f"{PREFIX}/{Surface.CDN}/",)
"""Paths whose bodies are files. Their limit is `files.max_file_bytes`, and no body is held in memory whole."""

SMALL = (f"{PREFIX}/{Surface.REST}/",)
"""Paths whose bodies FastAPI reads and validates whole, before the route sees them."""

_METHODS = ["GET", "POST", "PUT", "DELETE"]


def fal_router(services: Services, settings: Settings, sockets: Places, keys: Keys | None = None) -> APIRouter:
    """`sockets` counts those of all dialects."""
    limits = settings.limits
    streams = Places("status streams", limits.max_status_streams, limits.max_status_streams_per_key)
    router = APIRouter()
    models = {app_of(name): model for name, model in services.models.others.items()} | {APP: services.models.own}
    # Routes are tried in their order, and clients ask for the status of their jobs ten times a second.
    for app, model in models.items():
        router.include_router(QueueApi(model, services, settings, streams, app).router())
    for app, model in models.items():
        reader = SceneReader(model.speech, settings)
        router.include_router(RunApi(reader, model.speech, app).router())
        router.include_router(RealtimeApi(reader, model.speech, sockets, app=app).router())
    for api in (
        TokenApi(services, settings),
        UploadsApi(services, settings, keys),
        FilesApi(services.files, settings.limits),
    ):
        router.include_router(api.router())
    return router


def add_unknown_paths(app: FastAPI) -> None:
    """Answer every other path under the prefix in fal's shape. Call it last, since the first match wins."""
    app.add_api_route(f"{PREFIX}/{{rest:path}}", _unknown, methods=_METHODS, include_in_schema=False)


async def _unknown(rest: str) -> JSONResponse:
    return JSONResponse({"detail": f"nothing is served here; the application is {APP.lstrip('/')}"}, 404)
