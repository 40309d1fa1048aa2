"""The body of `POST /v1/text-to-speech/{voice_id}`, which sockets send piece by piece."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from serve_app.api.bounded import read_json
from serve_app.api.error_responses import invalid_request
from serve_app.api.lenient import Lenient, LenientBody
from serve_app.api.native_schema import Integer, Number
from serve_app.api.openapi import body_schemas, schema_ref
from serve_app.errors import InvalidRequest
from serve_app.settings import Settings
from serve_app.speech.build import Asked
from serve_app.speech.scene import Turn

_WITHOUT_EFFECT = {
    "language_code": "this model speaks English",
    "previous_text": "CSM takes no context without its audio",
    "next_text": "CSM does not look ahead",
    "previous_request_ids": "CSM takes no context without its audio",
    "next_request_ids": "CSM does not look ahead",
    "pronunciation_dictionary_locators": "there are no dictionaries here",
    "audio_effects": "there are no effects here",
}
_SETTINGS_WITHOUT_EFFECT = ("similarity_boost", "style", "use_speaker_boost")
_STEADIEST, _LIVELIEST = 0.8, 1.2
"""Of the server's temperature, at stability 1 and 0. At 0.5 it is the server's own."""


class ElevenLabsVoiceSettings(Lenient):
    stability: Number | None = Field(default=None, description="0 to 1: how steady. It lowers the temperature.")
    similarity_boost: Number | None = Field(default=None, description="Accepted, and without effect.")
    style: Number | None = Field(default=None, description="Accepted, and without effect.")
    use_speaker_boost: bool | None = Field(default=None, description="Accepted, and without effect.")
    speed: Number = Field(default=1.0, description="0.25 to 4, at the same pitch.")

    def sampling(self, settings: Settings) -> dict[str, float]:
        """Raises InvalidRequest."""
        if self.stability is None:
            return {}
        if not 0 <= self.stability <= 1:
            raise InvalidRequest("voice_settings.stability", "must be from 0 to 1; 0.5 is the model's own")
        share = _LIVELIEST + (_STEADIEST - _LIVELIEST) * self.stability
        return {"temperature": settings.sampling.temperature * share}

    @property
    def remarks(self) -> list[str]:
        given = (name for name in _SETTINGS_WITHOUT_EFFECT if getattr(self, name))
        return [f"voice_settings.{name}: without effect" for name in given]


class ElevenLabsSpeechBody(LenientBody):
    keeps_empty: ClassVar[frozenset[str]] = frozenset({"text"})

    text: str = Field(description="What to say.")
    model_id: str | None = Field(default=None, description="Any name: this server has one model.")
    voice_settings: ElevenLabsVoiceSettings = ElevenLabsVoiceSettings()
    seed: Integer | None = None
    apply_text_normalization: Literal["auto", "on", "off"] = "auto"
    apply_language_text_normalization: bool | None = None
    use_pvc_as_ivc: bool | None = None
    language_code: str | None = Field(default=None, description="Accepted, and without effect.")
    previous_text: str | None = Field(default=None, description="Accepted, and without effect.")
    next_text: str | None = Field(default=None, description="Accepted, and without effect.")
    previous_request_ids: list[str] | None = Field(default=None, description="Accepted, and without effect.")
    next_request_ids: list[str] | None = Field(default=None, description="Accepted, and without effect.")
    pronunciation_dictionary_locators: list[dict[str, Any]] | None = Field(
        default=None, description="Accepted, and without effect."
    )
    audio_effects: dict[str, Any] | None = Field(default=None, description="Accepted, and without effect.")


def parse(body: bytes) -> ElevenLabsSpeechBody:
    """Raises InvalidRequest for what is not a JSON object, or has a field of a wrong type."""
    try:
        return ElevenLabsSpeechBody.read(object_in(body))
    except ValidationError as error:
        raise invalid_request(error) from None


def object_in(data: bytes | str) -> dict[str, Any]:
    """Raises InvalidRequest for what is not a JSON object."""
    try:
        values = read_json("body", data)
    except (ValueError, RecursionError):
        raise _no_object("is not valid JSON") from None
    if not isinstance(values, dict):
        raise _no_object("must be a JSON object")
    return values


def asked(body: ElevenLabsSpeechBody, turn: Turn, settings: Settings) -> Asked:
    """The body in the core's terms. `turn`: its text, and who speaks it. Raises InvalidRequest."""
    given: Mapping[str, Any] = body.model_dump(include=set(_WITHOUT_EFFECT), exclude_none=True)
    remarks = [f"{name}: without effect, {_WITHOUT_EFFECT[name]}" for name, value in given.items() if value]
    return Asked(
        turns=[turn],
        sampling=body.voice_settings.sampling(settings),
        seed=body.seed,
        normalize=body.apply_text_normalization != "off",
        remarks=(*body.notices, *remarks, *body.voice_settings.remarks),
    )


def _no_object(what: str) -> InvalidRequest:
    return InvalidRequest("body", f'{what}: send an object such as {{"text": "Hello."}}')


BODY_SCHEMAS = body_schemas(ElevenLabsSpeechBody)
SPEECH_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": schema_ref("ElevenLabsSpeechBody")}}}
}
