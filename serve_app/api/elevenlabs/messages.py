"""What clients send over a socket, and how they are answered."""

import base64
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError
from starlette.datastructures import QueryParams

from serve_app.api.elevenlabs.alignment import Aligned
from serve_app.api.elevenlabs.errors import ElevenLabsError
from serve_app.api.elevenlabs.output_formats import DEFAULT
from serve_app.api.elevenlabs.schema import ElevenLabsSpeechBody, ElevenLabsVoiceSettings, object_in
from serve_app.api.error_responses import invalid_request
from serve_app.api.lenient import Lenient
from serve_app.api.native_schema import Integer, Number

_LONGEST_INACTIVITY_SECONDS = 180.0
_USUAL_INACTIVITY_SECONDS = 20.0


class GenerationConfig(Lenient):
    chunk_length_schedule: list[Annotated[int, Field(ge=1, le=500)]] = Field(default=[], max_length=50)


class SocketMessage(Lenient):
    """One message of a client. A missing text is not an empty one."""

    keeps_empty: ClassVar[frozenset[str]] = frozenset({"text"})

    text: str | None = None
    context_id: str | None = Field(default=None, max_length=200)
    voice_settings: ElevenLabsVoiceSettings | None = None
    generation_config: GenerationConfig = GenerationConfig()
    flush: bool = False
    close_context: bool = False
    close_socket: bool = False


class SocketQuery(Lenient):
    """The query of a socket's address."""

    output_format: str = DEFAULT
    auto_mode: bool = False
    sync_alignment: bool = False
    seed: Integer | None = None
    apply_text_normalization: str = "auto"
    language_code: str | None = None
    inactivity_timeout: Number = _USUAL_INACTIVITY_SECONDS

    @property
    def inactivity_seconds(self) -> float:
        return min(max(self.inactivity_timeout, 1.0), _LONGEST_INACTIVITY_SECONDS)

    def body(self, voice_settings: ElevenLabsVoiceSettings | None) -> ElevenLabsSpeechBody:
        """The body of a request without its text. Raises InvalidRequest."""
        values = {
            "text": "",
            "seed": self.seed,
            "apply_text_normalization": self.apply_text_normalization,
            "language_code": self.language_code,
            "voice_settings": voice_settings,
        }
        try:
            return ElevenLabsSpeechBody.model_validate(values)
        except ValidationError as error:
            raise invalid_request(error) from None


def message_in(data: bytes | str) -> SocketMessage:
    """Raises InvalidRequest."""
    try:
        return SocketMessage.model_validate(object_in(data))
    except ValidationError as error:
        raise invalid_request(error) from None


def query_in(params: QueryParams) -> SocketQuery:
    """Raises InvalidRequest."""
    try:
        return SocketQuery.model_validate(dict(params))
    except ValidationError as error:
        raise invalid_request(error) from None


def named(context_id: str | None) -> dict[str, str]:
    """Clients disagree on how the name of a context is written. A socket of one text has none."""
    return {} if context_id is None else {"contextId": context_id, "context_id": context_id}


def audio_message(audio: bytes) -> dict[str, Any]:
    encoded = base64.b64encode(audio).decode()
    return {"audio": encoded, "isFinal": None, "alignment": None, "normalizedAlignment": None}


def alignment_message(typed: Aligned, spoken: Aligned) -> dict[str, Any]:
    """The times of a part. It follows the part's audio."""
    return {
        "audio": "",
        "isFinal": None,
        "alignment": typed.in_milliseconds(),
        "normalizedAlignment": spoken.in_milliseconds(),
    }


def final_message() -> dict[str, Any]:
    return {"audio": None, "isFinal": True, "alignment": None, "normalizedAlignment": None}


def error_message(told: ElevenLabsError, code: int) -> dict[str, Any]:
    return {"message": told.message, "error": told.status, "code": code, "param": told.param}
