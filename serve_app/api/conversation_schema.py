"""Bodies of the conversation routes."""

from typing import Any

from pydantic import BaseModel, Field

from serve_app.api.lenient import LenientBody
from serve_app.api.native_schema import ContextItem, GenerateBody, Integer, Number
from serve_app.conversations.conversation import Conversation
from serve_app.conversations.turn import Turn
from serve_app.messages import FRAME_RATE_HZ


class ConversationBody(LenientBody):
    context: list[ContextItem] = Field(default=[], description="Recordings that hold the speakers' voices. They stay.")
    state: str | None = Field(default=None, description="A portable state to go on from.")


class TurnBody(GenerateBody):
    """A turn to speak: the fields of `/generate` without `scene` and `context`. Or with `audio`, one that was heard."""

    audio: str | None = Field(
        default=None, description="Base64 or a data URI of what was said; text is the transcript."
    )


class PlayedBody(BaseModel):
    played_ms: Number = Field(ge=0, description="Where the listener interrupted, from the turn's beginning.")


class TurnInfo(BaseModel):
    number: Integer
    kind: str
    speaker: Integer
    text: str
    heard_text: str = Field(description="What the model believes was said.")
    frames: Integer
    seconds: float
    in_context: bool = Field(description="Whether the model still hears it.")
    request_id: str
    prompt_positions: Integer = Field(description="Of the prompt that it was generated from; 0 for a recording.")


class ConversationInfo(BaseModel):
    id: str
    created_at: float
    expires_at: float
    context_frames: Integer = Field(description="Frames of voices and turns that the model hears; each is a position.")
    voices: list[dict[str, Any]]
    turns: list[TurnInfo]


def turn_info(number: int, turn: Turn, in_context: bool) -> TurnInfo:
    return TurnInfo(
        number=number,
        kind=turn.kind,
        speaker=turn.speaker,
        text=turn.text,
        heard_text=turn.heard_text,
        frames=turn.num_frames,
        seconds=turn.num_frames / FRAME_RATE_HZ,
        in_context=in_context,
        request_id=turn.request_id,
        prompt_positions=turn.prompt_positions,
    )


def conversation_info(conversation: Conversation) -> ConversationInfo:
    return ConversationInfo(
        id=conversation.id,
        created_at=conversation.created_at,
        expires_at=conversation.expires_at,
        context_frames=conversation.context_frames,
        voices=[
            {"speaker": voice.speaker, "text": voice.text, "frames": voice.codes.num_frames}
            for voice in conversation.voices
        ],
        turns=[
            turn_info(number, turn, number >= conversation.first_kept) for number, turn in enumerate(conversation.turns)
        ],
    )
