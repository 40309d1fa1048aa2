"""`/adapters`: the adapters that requests may name, and how an operator adds and removes them."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from serve_app.adapters.registry import AdapterRegistry
from serve_app.api.auth import key_of
from serve_app.errors import CheckpointError, Forbidden, InvalidRequest
from serve_app.keys.key import ANONYMOUS, Scope
from serve_app.settings import Settings
from serve_app.speech.service import SpeechService


class NewAdapter(BaseModel):
    source: str = Field(min_length=1, max_length=4096, description="A folder of the server, or a Hub repository.")
    revision: str | None = Field(default=None, max_length=256)


def adapters_router(speech: SpeechService, registry: AdapterRegistry, settings: Settings) -> APIRouter:
    router = APIRouter(prefix="/adapters", tags=["adapters"])

    def require_operator(request: Request) -> None:
        if key_of(request, Scope.ADMIN) == ANONYMOUS and settings.keys.open:
            raise Forbidden("a server that is open to all without keys takes no adapters: name them in its settings")

    @router.get("")
    async def list_adapters(request: Request) -> dict[str, Any]:
        """Names that a request may have as `adapter`."""
        key_of(request, Scope.SPEECH)
        return {"adapters": [{"name": ref.name} for ref in await registry.all()]}

    @router.put("/{name}")
    async def add_adapter(request: Request, name: str, body: NewAdapter) -> dict[str, Any]:
        """Load an adapter once, and let requests name it. Needs the scope `admin`."""
        require_operator(request)
        ref = registry.new(name, body.source, body.revision)
        try:
            await speech.check_adapter(ref)
        except CheckpointError as error:
            raise InvalidRequest("source", str(error)) from None
        await registry.put(ref)
        return {"name": name, "source": ref.source, "revision": ref.revision}

    @router.delete("/{name}")
    async def remove_adapter(request: Request, name: str) -> dict[str, Any]:
        """Requests that run keep it. Needs the scope `admin`."""
        require_operator(request)
        await registry.remove(name)
        return {"name": name}

    return router
