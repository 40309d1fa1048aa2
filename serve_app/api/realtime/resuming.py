"""Finds what a lost socket has missed of an answer, and sends it again from its codes."""

import asyncio
from contextlib import aclosing

from serve_app.api.realtime.outgoing import Audio, Ended
from serve_app.api.realtime.speaker import Send, audio_message
from serve_app.audio.encode.formats import Coding
from serve_app.errors import Conflict, UnknownRequest
from serve_app.messages import FRAME_SAMPLES
from serve_app.records.record import Record
from serve_app.speech.encoding import LiveEncoder
from serve_app.speech.kept_records import KeptRecords
from serve_app.speech.talk import Talk

_TRIES, _PAUSE_SECONDS = 15, 0.2


async def record_of(talk: Talk, records: KeptRecords, owner: str, conversation_id: str, request_id: str) -> Record:
    """The record of a lost socket's answer, once that socket has given its place back, which it does behind its record.

    Raises UnknownRequest, UnknownConversation, and Conflict while another turn is spoken.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            async with talk.conversations.taken(owner, conversation_id, await talk.room_seconds()):
                return await records.get(owner, request_id)
        except (UnknownRequest, Conflict):
            if not tries_left:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)
    raise AssertionError("the last try returns or raises")


async def send_missed(records: KeptRecords, record: Record, first_frame: int, coding: Coding, send: Send) -> None:
    """The audio of the answer from `first_frame` on."""
    frame = first_frame
    async with LiveEncoder(coding) as encoder, aclosing(records.sound(record, first_frame=first_frame)) as sound:
        async for pcm in sound:
            audio: Audio = audio_message(
                record.request_id, frame, len(pcm) // (2 * FRAME_SAMPLES), await encoder.feed(pcm)
            )
            await send(audio)
            frame += audio.frames
        if rest := await encoder.finish():
            await send(audio_message(record.request_id, frame, 0, rest))


def ended(record: Record) -> Ended:
    """That nothing more comes of the answer."""
    last = record.parts[-1] if record.parts else None
    return Ended(
        request_id=record.request_id,
        turn=None,
        finish_reason=record.finish_reason or "cancelled",
        frames=record.num_frames,
        spoken_chars=0 if last is None else last.end if record.finish_reason == "eos" else last.start,
    )
