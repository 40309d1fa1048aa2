"""`GET /metrics` for Prometheus."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from serve_app.api.auth import key_of
from serve_app.api.error_responses import documented
from serve_app.keys.key import Scope

_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}, **documented(401, 403)}


def metrics_router(metrics_text: Callable[[], Awaitable[str]]) -> APIRouter:
    router = APIRouter(tags=["server"])

    @router.get("/metrics", response_class=Response, responses=_RESPONSES)
    async def metrics(request: Request) -> Response:
        """The metrics of all replicas on all nodes, in Prometheus' text format."""
        key_of(request, Scope.METRICS)
        return Response(await metrics_text(), media_type=_PROMETHEUS_TEXT)

    return router
