"""Reads an upload of a voice, as JSON or as a form with files."""

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from serve_app.api.body import JSON, MULTIPART, content_type
from serve_app.api.bounded import read_json
from serve_app.api.error_responses import invalid_request
from serve_app.api.lenient import Lenient, LenientBody
from serve_app.audio.payload import audio_bytes
from serve_app.errors import InvalidRequest
from serve_app.voices.voice import Consent, NewVoice, Voice, VoiceClip

_MAX_PARTS = 64
_AUDIO_FIELDS = ("audio", "audio_sample", "files")
_TEXT_FIELDS = ("text", "transcript", "ref_text")
_OFF = ("false", "0", "no", "off")


class ClipBody(Lenient):
    text: str = Field(description="The words spoken in the clip.")
    audio: str = Field(description="Base64 or a data URI; any common format, rate and channel count.")


class ConsentBody(Lenient):
    statement: str = Field(default="", description="How the person who is heard agreed.")
    by: str = Field(default="", description="Who makes this statement.")


class VoiceBody(LenientBody):
    name: str
    clips: list[ClipBody]
    consent: ConsentBody = ConsentBody()
    adapter: str | None = Field(default=None, max_length=64, description="Name of the adapter that speaks it.")
    audition: bool = Field(default=True, description="Whether three sentences are spoken and scored.")


@dataclass(frozen=True, slots=True)
class Upload:
    voice: NewVoice
    has_audition: bool


async def read_upload(request: Request, max_bytes: int) -> Upload:
    """Raises InvalidRequest and InvalidAudio for what cannot be read. Limits of voices are not checked here."""
    kind = await content_type(request)
    if kind == JSON:
        return _of_json(await request.body())
    if kind != MULTIPART:
        raise InvalidRequest("body", "is a form without files: send multipart/form-data or application/json")
    try:
        async with request.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=max_bytes) as form:
            return await _of_form(form)
    except HTTPException:
        raise InvalidRequest("body", "is not valid multipart/form-data: check its boundary and its parts") from None


def _of_json(data: bytes) -> Upload:
    try:
        values = read_json("body", data)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidRequest("body", "must be a JSON object with name, clips and consent")
    try:
        body = VoiceBody.read(values)
    except ValidationError as error:
        raise invalid_request(error) from None
    clips = tuple(
        VoiceClip(clip.text, audio_bytes(f"clips[{number}].audio", clip.audio))
        for number, clip in enumerate(body.clips)
    )
    consent = Consent(body.consent.statement, body.consent.by)
    return Upload(NewVoice(body.name, clips, consent, body.adapter or None), body.audition)


async def _of_form(form: FormData) -> Upload:
    sounds = [
        await value.read() for name in _AUDIO_FIELDS for value in form.getlist(name) if isinstance(value, UploadFile)
    ]
    texts = [value for name in _TEXT_FIELDS for value in form.getlist(name) if isinstance(value, str)]
    if len(sounds) != len(texts):
        raise InvalidRequest(
            "text",
            f"is sent {len(texts)} times for {len(sounds)} files: send the transcript of each file, in the same order",
        )
    consent = Consent(_field(form, "consent") or _field(form, "consent_statement"), _field(form, "consent_by"))
    clips = tuple(VoiceClip(text, sound) for text, sound in zip(texts, sounds, strict=True))
    has_audition = _field(form, "audition").strip().lower() not in _OFF
    return Upload(NewVoice(_field(form, "name"), clips, consent, _field(form, "adapter") or None), has_audition)


def _field(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def shown(voice: Voice) -> dict[str, Any]:
    """A voice as its owner sees it. Times are unix seconds."""
    return {
        "id": voice.id,
        "name": voice.name,
        "created_at": voice.created_at,
        "transcripts": list(voice.transcripts),
        "consent": {"statement": voice.consent.statement, "by": voice.consent.by, "at": voice.consent_at},
        **({"adapter": voice.adapter} if voice.adapter else {}),
        **voice.report,
    }
