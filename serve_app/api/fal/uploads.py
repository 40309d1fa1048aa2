"""Uploads as fal's clients send them: to a signed address or with a token, whole or in parts."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from serve_app.api.auth import key_of
from serve_app.api.fal.errors import FalRoute, infra_errors, input_errors
from serve_app.api.fal.preferences import kept_seconds
from serve_app.api.fal.upload_parts import PARTS_BODY, read_parts
from serve_app.api.fal.ways import PREFIX, Surface, way_of
from serve_app.api.services import Services
from serve_app.errors import FileTooLarge, InvalidRequest, UnknownUpload
from serve_app.keys.key import Key, Scope
from serve_app.keys.keys import Keys
from serve_app.settings import Settings
from serve_app.store.multipart import MAX_PART_BYTES
from serve_app.store.stored_file import (
    DEFAULT_CONTENT_TYPE,
    StoredFile,
    ascii_name,
    file_path,
    new_file_id,
    safe_content_type,
    safe_name,
)

_REST = f"{PREFIX}/{Surface.REST}/storage/upload"
_CDN = f"{PREFIX}/{Surface.CDN}"
_SIGNED = f"{_CDN}/upload/{{upload_id}}/{{name}}"
_PARTS = f"{_CDN}/files/{{file_id}}/{{name}}/multipart/{{upload_id}}"
_ERRORS = infra_errors(401, 403, 404, 503) | input_errors(413, 422)
_BYTES: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


class NewUpload(BaseModel):
    file_name: str = "file"
    content_type: str = DEFAULT_CONTENT_TYPE


class UploadAddress(BaseModel):
    upload_url: str
    """PUT the bytes here. It needs no key."""
    file_url: str
    """Address of the uploaded file."""


class UploadsApi:
    def __init__(self, services: Services, settings: Settings, keys: Keys | None) -> None:
        self._files = services.files
        self._urls = services.urls
        self._keys = keys
        self._upload_seconds = settings.files.upload_seconds

    def router(self) -> APIRouter:
        router = APIRouter(route_class=FalRoute, tags=["files"])

        def add(path: str, method: str, endpoint: Any, **more: Any) -> None:
            router.add_api_route(path, endpoint, methods=[method], responses=_ERRORS, **more)

        add(f"{_REST}/initiate", "POST", self.initiate, response_model=UploadAddress)
        add(f"{_REST}/initiate-multipart", "POST", self.initiate_parts, response_model=UploadAddress)
        add(_SIGNED, "PUT", self.put, openapi_extra=_BYTES)
        add(f"{_SIGNED}/complete", "POST", self.complete_signed, openapi_extra=PARTS_BODY)
        add(f"{_SIGNED}/{{number}}", "PUT", self.put_signed_part, openapi_extra=_BYTES)
        add(f"{_CDN}/files/upload", "POST", self.post, openapi_extra=_BYTES)
        add(f"{_CDN}/files/upload/multipart", "POST", self.begin_parts)
        add(f"{_PARTS}/complete", "POST", self.complete, openapi_extra=PARTS_BODY)
        add(f"{_PARTS}/{{number}}", "PUT", self.put_part, openapi_extra=_BYTES)
        return router

    async def initiate(self, request: Request, body: NewUpload) -> UploadAddress:
        """Two addresses: one for the upload by PUT, and one of the uploaded file."""
        file_id, name = new_file_id(), safe_name(body.file_name)
        claims = {"type": safe_content_type(body.content_type), "name": name} | _lifetime(request)
        return self._addresses(request, file_id, name, claims, file_path(file_id, name))

    async def initiate_parts(self, request: Request, body: NewUpload) -> UploadAddress:
        """The same for an upload in parts: PUT each to `upload_url` with `/1`, … in its path, then `/complete`."""
        upload = await self._files.multipart.begin(
            name=body.file_name,
            content_type=body.content_type,
            owner=_key_for_files(request).id,
            seconds=kept_seconds(request.headers),
        )
        return self._addresses(request, upload.id, upload.name, {}, upload.path)

    async def put(self, request: Request, upload_id: str, name: str) -> JSONResponse:
        """Upload a file to a signed address. A second upload changes nothing."""
        claims = await self._signed(request, upload_id, name)
        if "name" not in claims:
            raise InvalidRequest("partNumber", "is missing: this address takes parts at /1, /2, … after its path")
        file = await self._files.put(
            _body(request),
            name=claims["name"],
            content_type=claims["type"],
            owner=claims["owner"],
            seconds=float(claims["kept"]) if "kept" in claims else None,
            file_id=upload_id,
        )
        return self._stored(request, file)

    async def put_signed_part(self, request: Request, upload_id: str, name: str, number: int) -> JSONResponse:
        await self._signed(request, upload_id, name)
        return await self._put_part(request, upload_id, number)

    async def complete_signed(self, request: Request, upload_id: str, name: str) -> JSONResponse:
        await self._signed(request, upload_id, name)
        return await self._complete(request, upload_id)

    async def post(self, request: Request) -> JSONResponse:
        """Upload a file in one request, with its name in `X-Fal-File-Name`."""
        key = _key_for_files(request)
        file = await self._files.put(
            _body(request), owner=key.id, seconds=kept_seconds(request.headers), **_described(request)
        )
        return self._stored(request, file)

    async def begin_parts(self, request: Request) -> dict[str, str]:
        """Begin an upload in parts: PUT each to `access_url` + `/multipart/{uploadId}/1`, …, then `/complete`."""
        upload = await self._files.multipart.begin(
            owner=_key_for_files(request).id, seconds=kept_seconds(request.headers), **_described(request)
        )
        return {"access_url": way_of(request).url(Surface.CDN, upload.path), "uploadId": upload.id}

    async def put_part(self, request: Request, upload_id: str, number: int) -> JSONResponse:
        await self._check_owner(request, upload_id)
        return await self._put_part(request, upload_id, number)

    async def complete(self, request: Request, upload_id: str) -> JSONResponse:
        await self._check_owner(request, upload_id)
        return await self._complete(request, upload_id)

    async def _check_owner(self, request: Request, upload_id: str) -> None:
        if await self._files.multipart.owner(upload_id) != _key_for_files(request).id:
            raise UnknownUpload(upload_id)

    async def _put_part(self, request: Request, upload_id: str, number: int) -> JSONResponse:
        part = bytearray()
        async for chunk in request.stream():
            part += chunk
            if len(part) > MAX_PART_BYTES:
                raise FileTooLarge("part", f"has more than {MAX_PART_BYTES} bytes: send smaller parts")
        etag = await self._files.multipart.put_part(upload_id, number, bytes(part))
        # Of fal's clients, one reads the body and the other reads the header.
        return JSONResponse({"partNumber": number, "etag": etag}, headers={"ETag": etag})

    async def _complete(self, request: Request, upload_id: str) -> JSONResponse:
        parts = [(part.partNumber, part.etag) for part in await read_parts(request)]
        return self._stored(request, await self._files.multipart.complete(upload_id, parts))

    def _stored(self, request: Request, file: StoredFile) -> JSONResponse:
        url = way_of(request).url(Surface.CDN, file.path)
        return JSONResponse({"access_url": url, "url": url}, headers={"ETag": file.etag})

    def _addresses(
        self, request: Request, upload_id: str, name: str, claims: dict[str, str], path: str
    ) -> UploadAddress:
        way, target = way_of(request), _signed_path(upload_id, ascii_name(name))
        key = _key_for_files(request)
        query = self._urls.sign(target, self._upload_seconds, owner=key.id, generation=key.generation, **claims)
        return UploadAddress(upload_url=f"{way.url(Surface.CDN, target)}?{query}", file_url=way.url(Surface.CDN, path))

    async def _signed(self, request: Request, upload_id: str, name: str) -> dict[str, str]:
        """The claims. Raises InvalidSignature, or Unauthorized if the key that asked for the address is gone."""
        claims = self._urls.check(_signed_path(upload_id, name), request.query_params)
        if self._keys is not None:
            key = await self._keys.confirm(claims["owner"], claims.get("generation", ""))
            key.require(Scope.FILES)
        return claims


def _signed_path(upload_id: str, name: str) -> str:
    return f"/upload/{upload_id}/{name}"


def _key_for_files(request: Request) -> Key:
    key = key_of(request)
    key.require(Scope.FILES)
    return key


def _lifetime(request: Request) -> dict[str, str]:
    seconds = kept_seconds(request.headers)
    return {} if seconds is None else {"kept": str(seconds)}


def _described(request: Request) -> dict[str, str]:
    headers = request.headers
    return {
        "name": headers.get("x-fal-file-name", "file"),
        "content_type": headers.get("content-type", DEFAULT_CONTENT_TYPE),
    }


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk
