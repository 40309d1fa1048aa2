"""Reads a request's body as field values, for any content type."""

import codecs
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from serve_app.errors import InvalidRequest

JSON = "application/json"
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
_MAX_FIELDS = 1000


async def content_type(request: Request) -> str:
    """The body's content type, without parameters. Raises InvalidRequest for an unsupported one.

    A body that begins as a JSON object is JSON whatever the header says: curl says form, a page's `fetch` says text.
    """
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind != JSON and (await request.body()).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        return JSON
    if kind not in (JSON, MULTIPART, URLENCODED):
        raise InvalidRequest("body", f"content type {kind!r} is not read here: send {JSON} or a form")
    return kind


async def form_fields(request: Request, kind: str, max_bytes: int) -> dict[str, str]:
    """The last value of each field. A file is read as text: `curl -F context=@context.json`."""
    if kind == URLENCODED:
        return _urlencoded(await request.body())
    try:
        # One field may be as long as the whole body, since it may hold context audio.
        async with request.form(max_part_size=max_bytes) as form:
            return {name: await _text(value) for name, value in form.items()}
    except HTTPException:
        raise InvalidRequest("body", "is not valid multipart/form-data: check its boundary and its parts") from None
    except UnicodeError:  # a charset parameter may name a codec that cannot decode
        raise InvalidRequest("body", "cannot be decoded: send the form in UTF-8") from None


def _urlencoded(body: bytes) -> dict[str, str]:
    """The fields of a form. Starlette's parser reads unescaped UTF-8 (`curl -d 'text=Grüße'`) as Latin-1."""
    try:
        return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise InvalidRequest("body", f"has more than {_MAX_FIELDS} form fields: send fewer") from None


async def _text(value: str | UploadFile) -> str:
    return value if isinstance(value, str) else (await value.read()).decode(errors="replace")
