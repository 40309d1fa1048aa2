"""The list of parts that completes an upload.

It is read here, because FastAPI would read a body of any size before the address's signature is checked.
"""

from typing import Any

from fastapi import Request
from pydantic import BaseModel, ValidationError

from serve_app.api.fal.errors import in_body
from serve_app.api.openapi import body_schemas, schema_ref
from serve_app.errors import FileTooLarge

_MAX_BYTES = 2 * 1024 * 1024
"""Enough for `store.multipart.MAX_PARTS` parts."""


class Part(BaseModel):
    partNumber: int
    etag: str


class Parts(BaseModel):
    parts: list[Part]


async def read_parts(request: Request) -> list[Part]:
    """Raises RequestValidationError for a body of another shape, FileTooLarge for one that is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise FileTooLarge("parts", f"is a list of more than {_MAX_BYTES} bytes: send fewer, larger parts")
    try:
        return Parts.model_validate_json(bytes(body)).parts
    except ValidationError as error:
        raise in_body(error) from None


BODY_SCHEMAS = body_schemas(Parts)
"""Of bodies that routes read by themselves, which FastAPI therefore does not know."""
PARTS_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": schema_ref("Parts")}}}
}
