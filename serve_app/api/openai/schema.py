"""The body of `POST /v1/audio/speech`: OpenAI's fields, and ours beside them (`extra_body` of its clients)."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError

from serve_app.api.bounded import check_lengths, read_json
from serve_app.api.error_responses import invalid_request
from serve_app.api.lenient import LenientBody
from serve_app.api.native_schema import ContextItem, Integer, Number, QualityWish
from serve_app.api.openai.voices import DEFAULT_VOICE, speaker_of
from serve_app.api.openapi import body_schemas, described_body
from serve_app.audio.encode.formats import MEDIA_TYPES
from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings
from serve_app.speech.build import Asked, AskedClip
from serve_app.speech.scene import Turn

_SAMPLING_FIELDS = {"temperature", "top_k", "top_p", "repetition_penalty"}
_EXAMPLE = '{"input": "Hello.", "voice": "alloy"}'
_WITHOUT_EFFECT = "instructions: without effect, CSM takes its tone from text and context"


def _plain_id(value: object) -> object:
    """Clients send a voice as its name, or as `{"id": name}`; loosely typed ones a number."""
    if isinstance(value, dict):
        value = value.get("id")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class VoiceId(LenientBody):
    id: str


Voice = Annotated[str, BeforeValidator(_plain_id, json_schema_input_type=str | VoiceId)]


class SpeechOptions(LenientBody):
    """All but the text."""

    model: str | None = Field(default=None, description="One of `GET /v1/models`; any, where there is one model.")
    voice: Voice = Field(default=DEFAULT_VOICE, description="OpenAI's name of a voice, or a speaker's number.")
    instructions: str | None = Field(default=None, description="Accepted, and without effect.")
    response_format: str | None = Field(default=None, description=f"{', '.join(MEDIA_TYPES)}; mp3 by default.")
    stream_format: Literal["audio", "sse"] = "audio"
    speed: Number = Field(default=1.0, description="0.25 to 4, at the same pitch.")
    stream: bool = Field(default=True, description="false: sent once it is complete. Not for `sse`.")
    sample_rate: Integer | None = Field(default=None, description="In Hz, 8000 to 48000 where the format allows.")
    context: list[ContextItem] = Field(default=[], description="As in `POST /generate`.")
    adapter: str | None = Field(
        default=None, max_length=64, description="Name of an adapter, as `GET /adapters` has it."
    )
    quality: QualityWish | None = None
    normalize: bool = True
    temperature: Number | None = None
    top_k: Integer | None = None
    top_p: Number | None = None
    repetition_penalty: Number | None = None
    seed: Integer | None = None
    max_audio_seconds: Number | None = None


class SpeechBody(SpeechOptions):
    keeps_empty: ClassVar[frozenset[str]] = frozenset({"input"})

    input: str = Field(description="What to say.")


def json_object(body: bytes, example: str) -> dict[str, Any]:
    """Raises InvalidRequest for what is not a JSON object. `example`: one that is."""
    try:
        values = read_json("body", body)
    except (ValueError, RecursionError):
        raise InvalidRequest("body", f"is not valid JSON: send an object such as {example}") from None
    if not isinstance(values, dict):
        raise InvalidRequest("body", f"must be a JSON object: send one such as {example}")
    return values


def parse(body: bytes, limits: LimitSettings) -> SpeechBody:
    """Raises InvalidRequest for what is not a JSON object, or has a field of a wrong type."""
    return validated(json_object(body, _EXAMPLE), limits)


def validated(values: dict[str, Any], limits: LimitSettings) -> SpeechBody:
    """Raises InvalidRequest."""
    check_lengths(values, limits)
    try:
        return SpeechBody.read(values)
    except ValidationError as error:
        raise invalid_request(error) from None


def asked(body: SpeechBody, kept_voice: str | None = None) -> Asked:
    """The body in the core's terms. `kept_voice`: the id of the voice that it names, if that is a kept one.

    Raises InvalidRequest for a voice that is not known.
    """
    turn = Turn(body.input, speaker_of(body.voice)) if kept_voice is None else Turn(body.input, 0, voice=kept_voice)
    return Asked(
        turns=[turn],
        context=[AskedClip(item.text, item.speaker, item.audio) for item in body.context],
        sampling=body.model_dump(include=_SAMPLING_FIELDS, exclude_none=True),
        seed=body.seed,
        max_audio_seconds=body.max_audio_seconds,
        normalize=body.normalize,
        adapter=body.adapter,
        quality=body.quality and body.quality.asked,
        remarks=(*body.notices, *((_WITHOUT_EFFECT,) if (body.instructions or "").strip() else ())),
    )


BODY_SCHEMAS = body_schemas(SpeechBody)
SPEECH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": described_body(
                "SpeechBody", speech={"model": "csm-1b", "voice": "alloy", "input": "Hello, how are you?"}
            )
        },
    }
}
