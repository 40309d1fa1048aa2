"""What the server sends over `/v1/realtime/speech`. `type` tells the messages apart."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from serve_app.errors import CsmServeError, InvalidRequest


class Ready(BaseModel):
    """The answer to `begin`."""

    type: Literal["ready"] = "ready"
    conversation_id: str
    turns: int
    sample_rate: int
    format: str
    weights: str
    notice: str | None


class Began(BaseModel):
    """A turn is being spoken."""

    type: Literal["turn.began"] = "turn.began"
    request_id: str
    turn: int
    seed: int
    prompt_positions: int


class Resumed(BaseModel):
    """A turn that broke off is spoken on. Text that the server has not received is to be sent again."""

    type: Literal["turn.resumed"] = "turn.resumed"
    request_id: str
    turn: int
    next_frame: int = Field(description="The first frame that is made anew. Those before it have been sent.")
    received_chars: int = Field(description="Typed characters of this turn that the server has.")
    is_complete: bool = Field(description="Whether the turn's text had ended.")


class Audio(BaseModel):
    """Sound of a turn. `frames` of 80 ms from `first_frame` on; a resampler may hold the last milliseconds back."""

    type: Literal["audio"] = "audio"
    request_id: str
    first_frame: int
    frames: int
    audio: str = Field(description="Base64, in the format and rate of the session.")


class Spoken(BaseModel):
    """A clause or sentence has been spoken, up to typed character `end_char` of this turn's text."""

    type: Literal["spoken"] = "spoken"
    request_id: str
    start_char: int
    end_char: int
    first_frame: int
    end_frame: int


class Word(BaseModel):
    text: str
    start_ms: int
    end_ms: int
    is_estimated: bool = Field(description="Whether it was not found in the sound, and was placed by its length.")


class Words(BaseModel):
    """When each word of what was spoken last is heard, from the turn's beginning. Comes slightly after the audio."""

    type: Literal["words"] = "words"
    request_id: str
    words: list[Word]


class Ended(BaseModel):
    """The turn is over. `turn` is null if nothing was spoken, so that it left no turn."""

    type: Literal["turn.ended"] = "turn.ended"
    request_id: str | None
    turn: int | None
    finish_reason: str
    frames: int
    spoken_chars: int
    heard_text: str | None = Field(default=None, description="After a cancel with played_ms: what the model believes.")


class HeardTurn(BaseModel):
    """The recording is a turn now."""

    type: Literal["heard"] = "heard"
    turn: int
    frames: int


class Prepared(BaseModel):
    type: Literal["prepared"] = "prepared"
    prompt_positions: int


class Pong(BaseModel):
    type: Literal["pong"] = "pong"


class Failed(BaseModel):
    """The message before could not be served. The socket stays open unless a close follows."""

    type: Literal["error"] = "error"
    kind: str
    detail: str
    field: str | None = None


class Reconnect(BaseModel):
    """This server is about to end. Connect again, to whichever ingress answers, and go on with `resume`."""

    type: Literal["reconnect"] = "reconnect"
    conversation_id: str
    request_id: str | None
    next_frame: int


Outgoing = Annotated[
    Ready | Began | Resumed | Audio | Spoken | Words | Ended | HeardTurn | Prepared | Pong | Failed | Reconnect,
    Field(discriminator="type"),
]


def failed(error: CsmServeError) -> Failed:
    field = error.field.removeprefix("turns[0].") if isinstance(error, InvalidRequest) else None
    return Failed(kind=error.kind, detail=str(error), field=field)
