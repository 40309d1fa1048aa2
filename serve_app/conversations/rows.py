"""Statements on the rows of conversations, within the transaction of a connection."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from serve_app.conversations.conversation import Conversation
from serve_app.conversations.tables import CONVERSATIONS, TURNS
from serve_app.conversations.turn import Turn
from serve_app.errors import Conflict, LimitReached, UnknownConversation
from serve_app.messages import Codes, ContextSegment
from serve_app.store.database import lock_name

_COUNTING = 7_210_052
"""PostgreSQL advisory lock, one for each owner: two must not both take the last place."""
_RETRY_SECONDS = 60


def add(connection: Connection, conversation: Conversation, most: int, now: float) -> None:
    """Raises LimitReached where the owner has `most` conversations."""
    lock_name(connection, _COUNTING, conversation.owner)
    live = (CONVERSATIONS.c.owner == conversation.owner, CONVERSATIONS.c.expires_at > now)
    if (connection.scalar(select(func.count()).select_from(CONVERSATIONS).where(*live)) or 0) >= most:
        raise LimitReached(f"this key may have {most} conversations: delete some first", _RETRY_SECONDS)
    connection.execute(
        insert(CONVERSATIONS).values(
            id=conversation.id,
            owner=conversation.owner,
            created_at=conversation.created_at,
            expires_at=conversation.expires_at,
            voices=json.dumps([[voice.text, voice.speaker, voice.codes.num_frames] for voice in conversation.voices]),
            codes=b"".join(voice.codes.data for voice in conversation.voices),
            num_codebooks=conversation.num_codebooks,
            num_turns=0,
            first_kept=conversation.first_kept,
        )
    )
    for turn in conversation.turns:
        append(connection, conversation.id, turn)


def read(connection: Connection, owner: str, conversation_id: str, now: float) -> Conversation:
    """Raises UnknownConversation if it is unknown, expired, or another owner's."""
    row = _row(connection, owner, conversation_id, now)
    turns = connection.execute(
        select(TURNS.c.description, TURNS.c.codes)
        .where(TURNS.c.conversation_id == conversation_id)
        .order_by(TURNS.c.number)
    )
    size = row.num_codebooks
    return Conversation(
        id=row.id,
        owner=row.owner,
        created_at=row.created_at,
        expires_at=row.expires_at,
        voices=_voices(row),
        turns=tuple(Turn.of(json.loads(turn.description), bytes(turn.codes), size) for turn in turns),
        first_kept=row.first_kept,
        num_codebooks=size,
    )


def take(connection: Connection, owner: str, conversation_id: str, holder: str, now: float, until: float) -> None:
    """Reserve the next turn. Raises Conflict while another turn is spoken, and UnknownConversation."""
    _row(connection, owner, conversation_id, now)
    is_free = or_(CONVERSATIONS.c.taken_by.is_(None), CONVERSATIONS.c.taken_until <= now)
    taken = update(CONVERSATIONS).where(CONVERSATIONS.c.id == conversation_id, is_free)
    if not connection.execute(taken.values(taken_by=holder, taken_until=until)).rowcount:
        raise Conflict("another turn of this conversation is being spoken: wait until it has ended, or cancel it")


def renew(connection: Connection, conversation_id: str, holder: str, until: float) -> None:
    ours = (CONVERSATIONS.c.id == conversation_id, CONVERSATIONS.c.taken_by == holder)
    connection.execute(update(CONVERSATIONS).where(*ours).values(taken_until=until))


def release(connection: Connection, conversation_id: str, holder: str) -> None:
    ours = (CONVERSATIONS.c.id == conversation_id, CONVERSATIONS.c.taken_by == holder)
    connection.execute(update(CONVERSATIONS).where(*ours).values(taken_by=None, taken_until=None))


def holds(connection: Connection, conversation_id: str, holder: str) -> bool:
    ours = (CONVERSATIONS.c.id == conversation_id, CONVERSATIONS.c.taken_by == holder)
    return connection.execute(select(CONVERSATIONS.c.id).where(*ours)).one_or_none() is not None


def append(connection: Connection, conversation_id: str, turn: Turn) -> int:
    """The turn's number."""
    ours = CONVERSATIONS.c.id == conversation_id
    grown = update(CONVERSATIONS).where(ours).values(num_turns=CONVERSATIONS.c.num_turns + 1)
    if not connection.execute(grown).rowcount:
        raise UnknownConversation(conversation_id)
    number = int(connection.scalar(select(CONVERSATIONS.c.num_turns).where(ours)) or 1) - 1
    connection.execute(insert(TURNS).values(conversation_id=conversation_id, number=number, **_values(turn)))
    return number


def replace_turn(connection: Connection, conversation_id: str, number: int, turn: Turn) -> None:
    ours = (TURNS.c.conversation_id == conversation_id, TURNS.c.number == number)
    connection.execute(update(TURNS).where(*ours).values(**_values(turn)))


def keep_from(connection: Connection, conversation_id: str, first: int, expires_at: float) -> None:
    values = {"first_kept": first, "expires_at": expires_at}
    connection.execute(update(CONVERSATIONS).where(CONVERSATIONS.c.id == conversation_id).values(**values))


def remove(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute(delete(TURNS).where(TURNS.c.conversation_id.in_(ids)))
    connection.execute(delete(CONVERSATIONS).where(CONVERSATIONS.c.id.in_(ids)))


def _row(connection: Connection, owner: str, conversation_id: str, now: float) -> Row[Any]:
    ours = (CONVERSATIONS.c.id == conversation_id, CONVERSATIONS.c.owner == owner, CONVERSATIONS.c.expires_at > now)
    row = connection.execute(select(CONVERSATIONS).where(*ours)).one_or_none()
    if row is None:
        raise UnknownConversation(conversation_id)
    return row


def _voices(row: Row[Any]) -> tuple[ContextSegment, ...]:
    voices: list[ContextSegment] = []
    data, size = bytes(row.codes), 2 * row.num_codebooks
    for text, speaker, frames in json.loads(row.voices):
        voices.append(ContextSegment(text, speaker, Codes(data[: size * frames], row.num_codebooks), anchor=True))
        data = data[size * frames :]
    return tuple(voices)


def _values(turn: Turn) -> dict[str, object]:
    return {"description": json.dumps(turn.description()), "codes": turn.codes.data}
