"""`GET /metrics`, where Prometheus looks for them."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response

_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def metrics_router(metrics_text: Callable[[], Awaitable[str]]) -> APIRouter:
    router = APIRouter(tags=["server"])

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """The whole server's metrics in Prometheus' text format, from all of its replicas on all nodes."""
        return Response(await metrics_text(), media_type=_PROMETHEUS_TEXT)

    return router
