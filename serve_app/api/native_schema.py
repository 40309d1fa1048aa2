"""The fields of `POST /generate`. Unknown ones are ignored, as the APIs that this one matches do."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.api.error_responses import invalid_request
from serve_app.errors import InvalidRequest


class SceneTurn(BaseModel):
    text: str
    speaker: int = 0


class ContextItem(SceneTurn):
    audio: str = Field(description="Base64 or a data URI; any common format, rate and channel count.")


class GenerateBody(BaseModel):
    """Either `text` or `scene`. A sampling field that is left out takes the server's default."""

    model_config = ConfigDict(extra="ignore")

    text: str | None = None
    speaker: int = 0
    scene: list[SceneTurn] | None = None
    context: list[ContextItem] = []
    streaming: bool | None = Field(default=None, description="Default: false for JSON, true for forms.")
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    greedy: bool | None = None
    seed: int | None = None
    max_audio_seconds: float | None = Field(default=None, description="Of the whole answer.")


def parse_json(body: bytes) -> GenerateBody:
    """Raises InvalidRequest for what is not JSON or has a field of a wrong type."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("body", "is not valid JSON") from None
    if not isinstance(values, dict):
        raise InvalidRequest("body", "must be a JSON object")
    return _validated(values)


def parse_form(fields: dict[str, str]) -> GenerateBody:
    """Form values are strings; `context` and `scene` hold JSON. Empty ones count as left out."""
    values: dict[str, Any] = {name: value for name, value in fields.items() if value != "" or name == "text"}
    for name in ("context", "scene"):
        if name in values:
            try:
                values[name] = json.loads(values[name])
            except (ValueError, RecursionError):
                raise InvalidRequest(name, "must hold JSON, a list of objects") from None
    return _validated(values)


def _validated(values: dict[str, Any]) -> GenerateBody:
    try:
        return GenerateBody.model_validate(values)
    except ValidationError as error:
        raise invalid_request(error) from None
