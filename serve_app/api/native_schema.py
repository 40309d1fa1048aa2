"""The fields of `POST /generate`. Unknown fields are ignored, as vox-serve ignores them."""

from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from serve_app.api.bounded import check_lengths, read_json
from serve_app.api.error_responses import invalid_request
from serve_app.api.lenient import Lenient, LenientBody, always_in_schema
from serve_app.audio.encode.formats import MEDIA_TYPES
from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings
from serve_app.speech.scene import GOOD_ENOUGH, Quality


def _not_bool(value: object) -> object:
    """pydantic reads true as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Integer = Annotated[int, BeforeValidator(_not_bool)]
Number = Annotated[float, BeforeValidator(_not_bool)]


class SceneTurn(Lenient):
    text: str
    speaker: Integer = 0
    voice: str | None = Field(default=None, description="Id or name of a kept voice.")


class ContextItem(Lenient):
    model_config = ConfigDict(json_schema_extra=always_in_schema("text"))

    text: str = Field(default="", description="The clip's transcript: the words spoken in it.")
    speaker: Integer = 0
    audio: str = Field(description="Base64 or a data URI; any common format, rate and channel count.")


class QualityWish(Lenient):
    """For jobs: several takes of each utterance, of which the best is kept."""

    candidates: Integer = Field(description="The most takes.")
    good_enough: Number = Field(default=GOOD_ENOUGH, description="The score at which no other take is drawn.")
    spread: Number = Field(default=1.0, description="Times the temperature of the take before, up to 2.")

    @property
    def asked(self) -> Quality:
        return Quality(self.candidates, self.good_enough, self.spread)


class GenerateBody(LenientBody):
    """Either `text` or `scene`. A sampling field that is left out takes the server's default."""

    keeps_empty: ClassVar[frozenset[str]] = frozenset({"text"})

    text: str | None = None
    speaker: Integer = 0
    voice: str | None = Field(default=None, description="Id or name of a kept voice, for turns that name none.")
    scene: list[SceneTurn] | None = None
    context: list[ContextItem] = Field(default=[])
    streaming: bool | None = Field(default=None, description="Default: false for JSON, true for forms.")
    format: str | None = Field(default=None, description=f"{', '.join(MEDIA_TYPES)}; wav by default.")
    response_format: str | None = Field(default=None, description="The same as `format`.")
    sample_rate: Integer | None = Field(default=None, description="In Hz, 8000 to 48000 where the format allows.")
    adapter: str | None = Field(
        default=None, max_length=64, description="Name of an adapter, as `GET /adapters` has it."
    )
    normalize: bool = Field(default=True, description="Whether numbers, signs and abbreviations are spelled out.")
    temperature: Number | None = Field(default=None, description="0 is greedy.")
    top_k: Integer | None = Field(default=None, description="0 and -1 switch it off.")
    top_p: Number | None = None
    repetition_penalty: Number | None = None
    greedy: bool | None = None
    seed: Integer | None = Field(default=None, description="-1 is chance, as if it were left out.")
    max_audio_seconds: Number | None = Field(default=None, description="Of the whole answer.")

    @model_validator(mode="after")
    def _one_of_text_and_scene(self) -> Self:
        """Drop the empty one of `text` and `scene`: some clients always send both."""
        if self.text is not None and self.scene is not None:
            if not any(turn.text.strip() for turn in self.scene):
                self.scene = None
            elif not self.text.strip():
                self.text = None
        return self


B = TypeVar("B", bound=LenientBody)
_HOLD_JSON = ("context", "scene")
_USUAL = LimitSettings()


def parse_json(body: bytes, limits: LimitSettings = _USUAL) -> GenerateBody:
    """The body. Raises InvalidRequest if it is not JSON or a field has a wrong type."""
    try:
        values = read_json("body", body)
    except (ValueError, RecursionError):
        raise InvalidRequest("body", 'is not valid JSON; send an object such as {"text": "Hello."}') from None
    if not isinstance(values, dict):
        raise InvalidRequest("body", 'must be a JSON object, such as {"text": "Hello."}')
    check_lengths(values, limits)
    return validated(GenerateBody, values)


def parse_form(fields: dict[str, str], limits: LimitSettings = _USUAL) -> GenerateBody:
    """The body of a form, whose values are strings. `context` and `scene` hold JSON; empty ones count as left out."""
    values: dict[str, Any] = dict(fields)
    for name in _HOLD_JSON:
        if values.get(name, "").strip():
            try:
                values[name] = read_json(name, values[name])
            except (ValueError, RecursionError):
                raise InvalidRequest(name, "must hold JSON, a list of objects") from None
    check_lengths(values, limits)
    return validated(GenerateBody, values)


SAMPLING_FIELDS = {"temperature", "top_k", "top_p", "repetition_penalty", "greedy"}


def validated(model: type[B], values: dict[str, Any]) -> B:
    """Raises InvalidRequest for the first field that is wrong."""
    try:
        return model.read(values)
    except ValidationError as error:
        raise invalid_request(error) from None


def _schemas() -> dict[str, dict[str, Any]]:
    """Schemas by name, for `#/components/schemas`. A form differs in the two fields that hold JSON."""
    body = GenerateBody.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = body.pop("$defs")
    as_json = {
        name: {"type": "string", "contentMediaType": "application/json", "description": f"JSON, as {name} of the body"}
        for name in _HOLD_JSON
    }
    form = body | {"title": "GenerateForm", "properties": body["properties"] | as_json}
    return {"GenerateBody": body, "GenerateForm": form, **nested}


BODY_SCHEMAS = _schemas()
