"""The fields of `POST /generate`. Unknown ones are ignored, as the APIs that this one matches do."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serve_app.api.bounded import check_lengths, read_json
from serve_app.api.error_responses import invalid_request
from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings


def _not_bool(value: object) -> object:
    """pydantic reads true as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Integer = Annotated[int, BeforeValidator(_not_bool)]
Number = Annotated[float, BeforeValidator(_not_bool)]


class SceneTurn(BaseModel):
    text: str
    speaker: Integer = 0


class ContextItem(SceneTurn):
    audio: str = Field(description="Base64 or a data URI; any common format, rate and channel count.")


class GenerateBody(BaseModel):
    """Either `text` or `scene`. A sampling field that is left out takes the server's default."""

    model_config = ConfigDict(extra="ignore")

    text: str | None = None
    speaker: Integer = 0
    scene: list[SceneTurn] | None = None
    context: list[ContextItem] = []
    streaming: bool | None = Field(default=None, description="Default: false for JSON, true for forms.")
    temperature: Number | None = None
    top_k: Integer | None = None
    top_p: Number | None = None
    repetition_penalty: Number | None = None
    greedy: bool | None = None
    seed: Integer | None = None
    max_audio_seconds: Number | None = Field(default=None, description="Of the whole answer.")


_HOLD_JSON = ("context", "scene")
_USUAL = LimitSettings()


def parse_json(body: bytes, limits: LimitSettings = _USUAL) -> GenerateBody:
    """Raises InvalidRequest for what is not JSON or has a field of a wrong type."""
    try:
        values = read_json("body", body)
    except (ValueError, RecursionError):
        raise InvalidRequest("body", 'is not valid JSON; send an object such as {"text": "Hello."}') from None
    if not isinstance(values, dict):
        raise InvalidRequest("body", 'must be a JSON object, such as {"text": "Hello."}')
    check_lengths(values, limits)
    return _validated(values)


def parse_form(fields: dict[str, str], limits: LimitSettings = _USUAL) -> GenerateBody:
    """Form values are strings; `context` and `scene` hold JSON. Empty ones count as left out."""
    values: dict[str, Any] = {name: value for name, value in fields.items() if value != "" or name == "text"}
    for name in _HOLD_JSON:
        if name in values:
            try:
                values[name] = read_json(name, values[name])
            except (ValueError, RecursionError):
                raise InvalidRequest(name, "must hold JSON, a list of objects") from None
    check_lengths(values, limits)
    return _validated(values)


def _validated(values: dict[str, Any]) -> GenerateBody:
    """null counts as left out, as clients mean it that send every field."""
    try:
        return GenerateBody.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise invalid_request(error) from None


def _schemas() -> dict[str, dict[str, Any]]:
    """By name, for `#/components/schemas`. A form is the same but for the two fields that hold JSON."""
    body = GenerateBody.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = body.pop("$defs")
    as_json = {
        name: {"type": "string", "contentMediaType": "application/json", "description": f"JSON, as {name} of the body"}
        for name in _HOLD_JSON
    }
    form = body | {"title": "GenerateForm", "properties": body["properties"] | as_json}
    return {"GenerateBody": body, "GenerateForm": form, **nested}


BODY_SCHEMAS = _schemas()
