"""What a client sends over `/v1/realtime/speech`. `type` tells the messages apart."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.native_schema import Integer, Number


class Sent(BaseModel):
    """A message of the client. Unknown fields are an error, so that a typo is not a silent default."""

    model_config = ConfigDict(extra="forbid")


class Opening(Sent):
    """What the first message says of all turns of the socket."""

    speaker: Integer = Field(default=0, description="Who speaks.")
    voice: str | None = Field(default=None, description="Id or name of a kept voice, which the speaker has.")
    adapter: str | None = Field(default=None, description="Name of an adapter of this server.")
    seed: Integer | None = None
    temperature: Number | None = None
    top_k: Integer | None = None
    top_p: Number | None = None
    repetition_penalty: Number | None = None
    normalize: bool = True
    words: bool = Field(default=False, description="Whether to send when each word is heard.")
    sample_rate: Integer | None = Field(default=None, description="Of the audio, in Hz; 24000 by default.")
    format: Literal["pcm", "mulaw", "alaw"] = "pcm"


class Begin(Opening):
    """The first message. It names a conversation to go on with, or begins one."""

    type: Literal["begin"]
    conversation_id: str | None = None
    state: str | None = Field(default=None, description="A portable state, for a new conversation.")


class Resume(Opening):
    """The first message of a socket that goes on with an answer whose socket was lost.

    What did not arrive is sent again. If the turn was still being spoken, it is spoken on.
    """

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
