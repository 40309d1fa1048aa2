"""Holds conversations in the database, so that any replica takes the next turn and a restart loses none."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from serve_app.conversations import rows
from serve_app.conversations.budget import TurnSize, first_kept
from serve_app.conversations.conversation import Conversation
from serve_app.conversations.tables import CONVERSATIONS
from serve_app.conversations.turn import Turn
from serve_app.errors import Conflict, InvalidRequest, StorageFailed
from serve_app.keys.key import ANONYMOUS
from serve_app.messages import FRAME_RATE_HZ, ContextSegment
from serve_app.settings import ConversationSettings
from serve_app.store.database import Database, reads, writes

_log = logging.getLogger(__name__)
_ALL_OWNERS_FACTOR = 100
_SWEPT_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Place:
    """The right to add the next turn."""

    conversation: Conversation
    holder: str

    @property
    def number(self) -> int:
        """Of the turn that will be added."""
        return len(self.conversation.turns)


class Conversations:
    """All methods may raise StorageFailed, and those that take an id UnknownConversation."""

    def __init__(
        self, database: Database, settings: ConversationSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def create(
        self, owner: str, voices: Sequence[ContextSegment], num_codebooks: int, turns: Sequence[Turn] = ()
    ) -> Conversation:
        """A new conversation. Raises LimitReached where the key has too many."""
        now = self._clock()
        conversation = Conversation(
            id=uuid.uuid4().hex,
            owner=owner,
            created_at=now,
            expires_at=now + self._settings.kept_seconds,
            voices=tuple(voices),
            turns=tuple(turns),
            first_kept=0,
            num_codebooks=num_codebooks,
        )
        most = self._settings.max_per_key * (_ALL_OWNERS_FACTOR if owner == ANONYMOUS.id else 1)
        await self._database.write(lambda connection: rows.add(connection, conversation, most, now))
        return conversation

    @reads
    def get(self, connection: Connection, owner: str, conversation_id: str) -> Conversation:
        return rows.read(connection, owner, conversation_id, self._clock())

    @reads
    def list(self, connection: Connection, owner: str, limit: int = 100) -> list[tuple[str, float, float, int]]:
        """Id, creation, expiry and number of turns, the newest first."""
        columns = (CONVERSATIONS.c[name] for name in ("id", "created_at", "expires_at", "num_turns"))
        ours = (CONVERSATIONS.c.owner == owner, CONVERSATIONS.c.expires_at > self._clock())
        newest = select(*columns).where(*ours).order_by(CONVERSATIONS.c.created_at.desc()).limit(limit)
        return [(row.id, row.created_at, row.expires_at, row.num_turns) for row in connection.execute(newest)]

    @writes
    def delete(self, connection: Connection, owner: str, conversation_id: str) -> None:
        rows.read(connection, owner, conversation_id, self._clock())
        rows.remove(connection, [conversation_id])

    @asynccontextmanager
    async def taken(self, owner: str, conversation_id: str, room_seconds: float) -> AsyncGenerator[Place, None]:
        """Hold the next turn while the block runs. Raises Conflict while another one is spoken.

        room_seconds: audio that the model can follow. Voices stay; the oldest exchanges that do not fit are dropped.
        """
        holder = uuid.uuid4().hex
        place = await self._take(owner, conversation_id, holder, room_seconds)
        renewing = asyncio.create_task(self._renew(conversation_id, holder))
        try:
            yield place
        finally:
            renewing.cancel()
            await asyncio.shield(asyncio.ensure_future(self._release(conversation_id, holder)))

    @writes
    def append(self, connection: Connection, place: Place, turn: Turn) -> int:
        """Add the turn and give the place back. Raises Conflict if the place was lost, and InvalidRequest."""
        if place.number >= self._settings.max_turns:
            raise InvalidRequest("turns", f"are {self._settings.max_turns} already: begin another conversation")
        self._check_held(connection, place)
        number = rows.append(connection, place.conversation.id, turn)
        self._give_back(connection, place)
        return number

    @writes
    def extend(self, connection: Connection, place: Place, turn: Turn) -> int:
        """Put the turn in place of the last one, which it went on with. Else as `append`."""
        self._check_held(connection, place)
        rows.replace_turn(connection, place.conversation.id, place.number - 1, turn)
        self._give_back(connection, place)
        return place.number - 1

    @writes
    def cut(self, connection: Connection, owner: str, conversation_id: str, number: int, played_ms: float) -> Turn:
        """Cut a turn to what was heard. Raises InvalidRequest for a turn that is not there."""
        conversation = rows.read(connection, owner, conversation_id, self._clock())
        if not 0 <= number < len(conversation.turns):
            raise InvalidRequest("turn", f"{number} is not there: the conversation has {len(conversation.turns)} turns")
        turn = conversation.turns[number].cut(played_ms)
        rows.replace_turn(connection, conversation_id, number, turn)
        return turn

    @writes
    def sweep(self, connection: Connection) -> int:
        """Delete what has expired. Returns how many."""
        expired = select(CONVERSATIONS.c.id).where(CONVERSATIONS.c.expires_at <= self._clock()).limit(_SWEPT_AT_ONCE)
        ids = list(connection.execute(expired).scalars())
        if ids:
            rows.remove(connection, ids)
        return len(ids)

    @writes
    def _take(
        self, connection: Connection, owner: str, conversation_id: str, holder: str, room_seconds: float
    ) -> Place:
        now = self._clock()
        rows.take(connection, owner, conversation_id, holder, now, now + self._settings.lease_seconds)
        conversation = rows.read(connection, owner, conversation_id, now)
        return Place(within(conversation, room_seconds), holder)

    def _check_held(self, connection: Connection, place: Place) -> None:
        if not rows.holds(connection, place.conversation.id, place.holder):
            raise Conflict("this turn took too long without a sign of life, and another one was begun: send it again")

    def _give_back(self, connection: Connection, place: Place) -> None:
        conversation, until = place.conversation, self._clock() + self._settings.kept_seconds
        rows.keep_from(connection, conversation.id, conversation.first_kept, until)
        rows.release(connection, conversation.id, place.holder)

    async def _renew(self, conversation_id: str, holder: str) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            until = self._clock() + self._settings.lease_seconds
            try:
                await self._database.write(
                    lambda connection, until=until: rows.renew(connection, conversation_id, holder, until)
                )
            except StorageFailed:
                _log.warning("a turn's lease cannot be renewed now")

    async def _release(self, conversation_id: str, holder: str) -> None:
        try:
            await self._database.write(lambda connection: rows.release(connection, conversation_id, holder))
        except StorageFailed:
            _log.warning("a turn's lease cannot be given back: it expires")


def within(conversation: Conversation, room_seconds: float) -> Conversation:
    """The conversation without the exchanges that the model cannot follow any more."""
    voices = sum(voice.codes.num_frames for voice in conversation.voices)
    sizes = [TurnSize(turn.num_frames, turn.kind == "heard") for turn in conversation.turns]
    first = first_kept(sizes, conversation.first_kept, room_seconds * FRAME_RATE_HZ - voices)
    return replace(conversation, first_kept=first)
