"""`/health`, `/ready` and `/info`."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from serve_app import __version__
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService


def health_router(speech: SpeechService, settings: Settings) -> APIRouter:
    router = APIRouter(tags=["server"])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """200 as long as the process answers, whatever the models do."""
        return {"status": "healthy"}

    @router.get("/ready")
    async def ready() -> dict[str, str]:
        """200 once every model is loaded and warmed, 503 before."""
        await speech.check_ready()
        return {"status": "ready"}

    @router.get("/info")
    async def info() -> dict[str, Any]:
        """The model, its device, and the limits and defaults of this server."""
        model = await speech.info()
        answer = {
            "version": __version__,
            **asdict(model),
            "limits": settings.limits.model_dump(),
            "sampling": settings.sampling.model_dump(),
            "watermark": speech.watermark.name if speech.watermark else None,
        }
        if model.notice:
            answer["notice"] = model.notice
        return answer

    return router
