"""The list of parts that completes an upload.

Read here and not by FastAPI: that would take a body of any size, before anybody has looked at the address's signature.
"""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from serve_app.api.openapi import schema_ref
from serve_app.errors import FileTooLarge

_MOST_BYTES = 2 * 1024 * 1024
"""Of `store.files.MAX_PARTS` parts, as any client writes them."""


class Part(BaseModel):
    partNumber: int
    etag: str


class Parts(BaseModel):
    parts: list[Part]


async def read_parts(request: Request) -> list[Part]:
    """Raises RequestValidationError for a body of another shape, FileTooLarge for one that is no list of parts."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise FileTooLarge("parts", f"is a list of more than {_MOST_BYTES} bytes: send fewer, larger parts")
    try:
        return Parts.model_validate_json(bytes(body)).parts
    except ValidationError as error:
        raise RequestValidationError(
            [found | {"loc": ("body", *found["loc"])} for found in error.errors(include_context=False)]
        ) from None


def _schemas() -> dict[str, dict[str, Any]]:
    body = Parts.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"Parts": body, **body.pop("$defs")}


BODY_SCHEMAS = _schemas()
"""Of bodies that routes read by themselves, which FastAPI therefore does not know."""
PARTS_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": schema_ref("Parts")}}}
}
