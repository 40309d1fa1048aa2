"""Short-lived tokens that replace a key, for web pages that must not hold one and for uploads."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from serve_app.api.auth import key_of
from serve_app.api.fal.errors import FalRoute, infra_errors, input_errors
from serve_app.api.fal.ways import APP, PREFIX, Surface, app_of, way_of
from serve_app.api.services import Services
from serve_app.errors import InvalidRequest, Unauthorized
from serve_app.keys.key import ANONYMOUS, Key, Scope
from serve_app.keys.keys import Keys
from serve_app.settings import Settings
from serve_app.store.signing import Tokens

_REST = f"{PREFIX}/{Surface.REST}"
_ALIAS = APP.rpartition("/")[2]
_MAX_SECONDS = 86_400
_TOKEN_IN_QUERY = "fal_jwt_token"
_ERRORS = infra_errors(401, 403) | input_errors(422)


class Use(StrEnum):
    """A token grants one scope of its key on one surface."""

    APP = "app"
    UPLOAD = "upload"


_SCOPES = {Use.APP: Scope.SPEECH, Use.UPLOAD: Scope.FILES}


class TokenRequest(BaseModel):
    allowed_apps: list[str] = Field(default=[_ALIAS], max_length=100, description="Names without their owner.")
    token_expiration: int = Field(default=120, ge=1, le=_MAX_SECONDS, description="In seconds.")


class UploadToken(BaseModel):
    token: str
    token_type: str
    base_url: str
    expires_at: str


class FalTokens:
    """Authenticates `?fal_jwt_token=` on the run surface and Bearer tokens on the file surface."""

    def __init__(self, tokens: Tokens, keys: Keys) -> None:
        self._tokens = tokens
        self._keys = keys

    async def __call__(self, connection: HTTPConnection) -> Key | None:
        path = connection.scope["path"].removeprefix(connection.scope.get("root_path", ""))
        if path.startswith(f"{PREFIX}/{Surface.RUN}/") and (token := connection.query_params.get(_TOKEN_IN_QUERY)):
            return await self._key(token, Use.APP)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        is_token = scheme.lower() == "bearer" and token.count(".") == 2
        if path.startswith(f"{PREFIX}/{Surface.CDN}/") and is_token:
            return await self._key(token.strip(), Use.UPLOAD)
        return None

    async def _key(self, token: str, use: Use) -> Key:
        claims = self._tokens.read(token)
        if claims.get("use") != use:
            raise Unauthorized("this token is for another use: ask for one of the right kind")
        if claims["key"] == ANONYMOUS.id:
            raise Unauthorized("this token was issued when no keys were required: ask for a new one")
        key = await self._keys.confirm(claims["key"], claims.get("generation", ""))
        return replace(key, scopes=key.scopes & {_SCOPES[use]})


class TokenApi:
    def __init__(self, services: Services, settings: Settings) -> None:
        self._services = services
        self._apps = {_ALIAS, APP.lstrip("/")}
        for name in services.models.others:
            self._apps |= {name, app_of(name).lstrip("/")}
        self._upload_seconds = settings.files.upload_seconds

    def router(self) -> APIRouter:
        router = APIRouter(route_class=FalRoute, tags=["fal"])
        add = router.add_api_route
        add(f"{_REST}/tokens/", self.app_token, methods=["POST"], response_model=str, responses=_ERRORS)
        add(f"{_REST}/tokens", self.app_token, methods=["POST"], include_in_schema=False)
        add(
            f"{_REST}/storage/auth/token",
            self.upload_token,
            methods=["POST"],
            response_model=UploadToken,
            responses=_ERRORS,
        )
        add(f"{_REST}/.well-known/jwks.json", self.jwks, methods=["GET"])
        return router

    async def app_token(self, request: Request, body: TokenRequest) -> JSONResponse:
        """A token that acts for this key on `run` and `realtime` for the requested time."""
        if self._apps.isdisjoint(body.allowed_apps):
            raise InvalidRequest("allowed_apps", f"must contain {_ALIAS}, the app of this server")
        return JSONResponse(self._token(request, Use.APP, body.token_expiration))

    async def upload_token(self, request: Request) -> UploadToken:
        """A token for the uploads of fal's Python client."""
        expires_at = datetime.now(UTC) + timedelta(seconds=self._upload_seconds)
        return UploadToken(
            token=self._token(request, Use.UPLOAD, self._upload_seconds),
            token_type="Bearer",
            base_url=way_of(request).url(Surface.CDN, ""),
            expires_at=expires_at.isoformat(timespec="seconds"),
        )

    async def jwks(self) -> dict[str, Any]:
        """The public keys of webhook signatures."""
        return self._services.jwks()

    def _token(self, request: Request, use: Use, seconds: float) -> str:
        key = key_of(request)
        key.require(_SCOPES[use])
        return self._services.tokens.issue({"use": use, "key": key.id, "generation": key.generation}, seconds)
