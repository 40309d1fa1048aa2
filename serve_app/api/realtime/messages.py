"""Every message of `/v1/realtime/speech`. `type` tells them apart. `GET /v1/realtime/schema` is their JSON schema."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from serve_app.api.native_schema import Integer, Number


class Sent(BaseModel):
    """A message of the client. Unknown fields are an error, so that a typo is not a silent default."""

    model_config = ConfigDict(extra="forbid")


class Begin(Sent):
    """The first message. It names a conversation to go on with, or begins one."""

    type: Literal["begin"]
    conversation_id: str | None = None
    state: str | None = Field(default=None, description="A portable state, for a new conversation.")
    speaker: Integer = Field(default=0, description="Who speaks.")
    seed: Integer | None = None
    temperature: Number | None = None
    top_k: Integer | None = None
    top_p: Number | None = None
    repetition_penalty: Number | None = None
    normalize: bool = True
    words: bool = Field(default=False, description="Whether to send when each word is heard.")
    sample_rate: Integer | None = Field(default=None, description="Of the audio, in Hz; 24000 by default.")
    format: Literal["pcm", "mulaw", "alaw"] = "pcm"


class Resume(Sent):
    """The first message of a socket that goes on with an answer whose socket was lost, for a minute."""

    type: Literal["resume"]
    conversation_id: str
    request_id: str
    from_frame: Integer = Field(ge=0, description="The first frame that did not arrive.")


class Text(Sent):
    """Text to speak, in any portions: a word, a token, a page."""

    type: Literal["text"]
    text: str


class Flush(Sent):
    """Speak all that has come, though no clause ends there."""

    type: Literal["flush"]


class End(Sent):
    """The turn's text is complete."""

    type: Literal["end"]


class Cancel(Sent):
    """Stop speaking at once. With `played_ms` the turn is cut to the 80 ms frame that was heard."""

    type: Literal["cancel"]
    played_ms: Number | None = Field(default=None, ge=0)


class Heard(Sent):
    """What somebody else said: a recording and its transcript, as a turn of the conversation."""

    type: Literal["heard"]
    text: str
    speaker: Integer = 1
    audio: str = Field(description="Base64 or a data URI.")


class Prepare(Sent):
    """Read the conversation now, while the user still speaks. The next turn's first audio then comes sooner."""

    type: Literal["prepare"]


class Ping(Sent):
    """Keeps the socket open. It is closed after `idle_seconds` without a message."""

    type: Literal["ping"]


Incoming = Annotated[Begin | Resume | Text | Flush | End | Cancel | Heard | Prepare | Ping, Field(discriminator="type")]


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
    Ready | Began | Audio | Spoken | Words | Ended | HeardTurn | Prepared | Pong | Failed | Reconnect,
    Field(discriminator="type"),
]
INCOMING: TypeAdapter[Any] = TypeAdapter(Incoming)
OUTGOING: TypeAdapter[Any] = TypeAdapter(Outgoing)


def schema() -> dict[str, Any]:
    """The JSON schemas of both unions."""
    return {"incoming": INCOMING.json_schema(), "outgoing": OUTGOING.json_schema(mode="serialization")}
