"""Serves the page and its files, which lie in `page/` beside this module.

They name each other by relative addresses, so that the page also works below a path prefix.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath

from fastapi import APIRouter, Response

ASSETS = "/playground"
"""Where scripts, style and icon are served."""
_PAGE = "index.html"
# Python's own table depends on the machine, and browsers run no script of a wrong type.
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "media-src 'self' blob:",  # context clips, played before they are sent
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # A newer server's page must not run an older one's scripts.
    "Cache-Control": "no-cache",
}


def _addresses() -> dict[str, Traversable]:
    """Each file of the page, by the path that serves it."""
    folder = files("serve_app.api.playground") / "page"
    return {"/" if file.name == _PAGE else f"{ASSETS}/{file.name}": file for file in folder.iterdir() if file.is_file()}


PAGE_FILES = _addresses()


def playground_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    for path, file in PAGE_FILES.items():
        router.add_api_route(path, _sender(file), methods=["GET"], response_class=Response)
    return router


def _sender(file: Traversable) -> Callable[[], Awaitable[Response]]:
    content = file.read_bytes()
    media_type = _MEDIA_TYPES[PurePath(file.name).suffix]

    async def send() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return send
