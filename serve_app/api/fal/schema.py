"""The input and output of `fal-ai/csm-1b`. Unknown fields are ignored, as fal does."""

from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serve_app.api.bounded import check_lengths, read_json
from serve_app.api.fal.errors import in_body
from serve_app.api.lenient import Lenient, LenientBody, always_in_schema
from serve_app.api.native_schema import Integer, Number, QualityWish
from serve_app.api.openapi import body_schemas, described_body
from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings
from serve_app.speech.build import Asked, AskedClip
from serve_app.speech.scene import AnswerFile, Turn

_USUAL = LimitSettings()


def _plain_url(value: object) -> object:
    """fal's clients send a file as its URL, or as the object that an earlier answer held."""
    return value["url"] if isinstance(value, dict) and "url" in value else value


class FalFile(BaseModel):
    url: str = Field(description="http(s), or a data URI in base64.")


AudioUrl = Annotated[str, BeforeValidator(_plain_url, json_schema_input_type=str | FalFile)]


class FalTurn(Lenient):
    speaker_id: Integer
    text: str
    voice: str | None = Field(default=None, description="Ours: id or name of a kept voice.")


class FalSpeaker(Lenient):
    model_config = ConfigDict(json_schema_extra=always_in_schema("prompt"))

    prompt: str = Field(default="", description="What is said in the audio.")
    speaker_id: Integer
    audio_url: AudioUrl


class FalInput(LenientBody):
    scene: list[FalTurn] = Field(description="The text to generate an audio from.")
    context: list[FalSpeaker] = Field(default=[], description="The context to generate an audio from.")
    seed: Integer | None = None
    temperature: Number | None = None
    top_k: Integer | None = None
    max_audio_seconds: Number | None = Field(default=None, description="Of the whole scene.")
    output_format: Literal["wav", "pcm", "mp3", "opus", "flac", "aac", "mulaw", "alaw"] = "wav"
    sample_rate: Integer | None = Field(default=None, description="In Hz, 8000 to 48000 where the format allows.")
    adapter: str | None = Field(
        default=None, max_length=64, description="Name of an adapter, as `GET /adapters` has it."
    )
    quality: QualityWish | None = None
    normalize: bool = Field(default=True, description="Whether numbers, signs and abbreviations are spelled out.")


class FalOutputFile(BaseModel):
    url: str
    content_type: str
    file_name: str
    file_size: int


class FalTimedTurn(BaseModel):
    """When a turn of the scene is heard, in seconds and in frames of 80 ms."""

    turn: int
    speaker_id: int
    start: float
    end: float
    first_frame: int
    end_frame: int


class FalOutput(BaseModel):
    """`audio` is fal's. The fields below it are ours."""

    audio: FalOutputFile
    seed: int
    finish_reason: str
    audio_seconds: float
    turns: list[FalTimedTurn] = []
    quality: dict[str, Any] | None = None
    """Scores of the takes, where `quality` asked for several."""
    notices: list[str] = []
    """Of ignored fields, lowered values, unspoken text and recordings. Left out where there are none."""


def parse(body: bytes, limits: LimitSettings = _USUAL) -> FalInput:
    """Raises RequestValidationError with every place that is wrong, or a body that is no JSON object.

    Raises InvalidRequest for more values than a request can have.
    """
    try:
        values = read_json("body", body)
    except (ValueError, RecursionError):
        raise RequestValidationError([_problem("json_invalid", "the body is not valid JSON")]) from None
    if not isinstance(values, dict):
        raise RequestValidationError([_problem("dict_type", "the body must be a JSON object")])
    return validated(values, limits)


def validated(values: dict[str, Any], limits: LimitSettings = _USUAL) -> FalInput:
    """Raises RequestValidationError, and InvalidRequest for lists beyond the limits."""
    check_lengths(values, limits)
    try:
        return FalInput.read(values)
    except ValidationError as error:
        raise in_body(error) from None


def asked(body: FalInput, file: AnswerFile) -> Asked:
    """The input in the core's terms. Raises InvalidRequest for audio that is neither a URL nor a data URI."""
    return Asked(
        turns=[Turn(turn.text, turn.speaker_id, voice=turn.voice) for turn in body.scene],
        context=[
            AskedClip(item.prompt, item.speaker_id, _url(f"context[{number}].audio", item.audio_url))
            for number, item in enumerate(body.context)
        ],
        sampling=body.model_dump(include={"temperature", "top_k"}, exclude_none=True),
        seed=body.seed,
        max_audio_seconds=body.max_audio_seconds,
        file=file,
        normalize=body.normalize,
        adapter=body.adapter,
        quality=body.quality and body.quality.asked,
        remarks=body.notices,
    )


def _url(path: str, url: str) -> str:
    if not url[:8].lower().startswith(("data:", "http://", "https://")):
        raise InvalidRequest(path, "must be an http(s) URL or a data URI: data:audio/wav;base64,<the file in base64>")
    return url


def _problem(kind: str, message: str) -> dict[str, Any]:
    return {"loc": ("body",), "msg": message, "type": kind}


BODY_SCHEMAS = body_schemas(FalInput)
"""Schemas of bodies that routes read by themselves, so that FastAPI does not know them."""
INPUT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": described_body(
                "FalInput",
                scene={
                    "scene": [{"text": "Hello.", "speaker_id": 0}, {"text": "Hi there.", "speaker_id": 1}],
                    "seed": 7,
                },
            )
        },
    }
}
