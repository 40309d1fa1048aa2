"""The list of parts that completes an upload.

It is read here, because FastAPI would read a body of any size before the address's signature is checked.
"""

from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, FailFast, Field, ValidationError

from serve_app.api.bounded import check_count
from serve_app.api.fal.errors import in_body
from serve_app.api.openapi import body_schemas, schema_ref
from serve_app.errors import FileTooLarge
from serve_app.store.multipart import MAX_PARTS

_MAX_BYTES = 2 * 1024 * 1024
"""Enough for `MAX_PARTS` parts."""
_MAX_VALUES = 4 * MAX_PARTS


class Part(BaseModel):
    partNumber: int
    etag: str


class Parts(BaseModel):
    parts: Annotated[list[Part], FailFast(), Field(max_length=MAX_PARTS)]


async def read_parts(request: Request) -> list[Part]:
    """Raises RequestValidationError for a body of another shape, FileTooLarge for one that is too long."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > _MAX_BYTES:
            raise FileTooLarge("parts", f"is a list of more than {_MAX_BYTES} bytes: send fewer, larger parts")
    body = bytes(received)
    check_count("parts", body, _MAX_VALUES)
    try:
        return Parts.model_validate_json(body).parts
    except ValidationError as error:
        raise in_body(error) from None


BODY_SCHEMAS = body_schemas(Parts)
"""Schemas of bodies that routes read by themselves, so that FastAPI does not know them."""
PARTS_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": schema_ref("Parts")}}}
}
