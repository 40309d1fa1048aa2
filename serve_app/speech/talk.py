"""Speaks and hears the turns of conversations: each is conditioned on how the earlier ones sounded."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from serve_app.conversations.conversation import Conversation
from serve_app.conversations.conversations import Conversations, Place, within
from serve_app.conversations.from_record import turn_of
from serve_app.conversations.portable import PortableStates, State
from serve_app.conversations.turn import Passage, Turn
from serve_app.errors import Conflict, InvalidRequest
from serve_app.keys.key import Key
from serve_app.messages import ContextSegment
from serve_app.records.record import Record
from serve_app.speech.answer import Answer
from serve_app.speech.call import Before, Call
from serve_app.speech.live.text import LiveText
from serve_app.speech.scene import ContextSource, Scene
from serve_app.speech.service import SpeechService


class Talk:
    """What every way to hold a conversation shares: the routes and the WebSocket."""

    def __init__(self, speech: SpeechService, conversations: Conversations, states: PortableStates) -> None:
        self.conversations = conversations
        self.states = states
        self._speech = speech

    async def begin(self, key: Key, clips: Sequence[ContextSource], state: str | None) -> Conversation:
        """A new conversation with the voices in `clips`, or one that goes on from a portable state."""
        info = await self._speech.info()
        known = self.states.unpack(state) if state else State((), (), info.num_codebooks)
        if known.num_codebooks != info.num_codebooks:
            raise InvalidRequest("state", "holds codes of another model: begin another conversation")
        voices = [*known.voices, *(replace(clip, anchor=True) for clip in await self._speech.encoded(clips, key))]
        return await self.conversations.create(key.id, voices, info.num_codebooks, known.turns)

    async def hear(self, key: Key, conversation_id: str, clip: ContextSource) -> tuple[int, Turn]:
        """Add a recording and its transcript as a turn. Its number, and the turn."""
        (segment,) = await self._speech.encoded([clip], key)
        passage = Passage(clip.text, 0, segment.codes.num_frames)
        turn = Turn("heard", clip.speaker, clip.text, (passage,), segment.codes)
        async with self.conversations.taken(key.id, conversation_id, await self.room_seconds()) as place:
            return await self.conversations.append(place, turn), turn

    @asynccontextmanager
    async def speaking(
        self, scene: Scene, call: Call, conversation_id: str
    ) -> AsyncGenerator[tuple[Answer, int], None]:
        """The answer to `scene` as the next turn, and the turn's number. What was spoken of it is added at its end."""
        room_seconds = await self.room_seconds()
        async with (
            self.conversations.taken(call.key.id, conversation_id, room_seconds) as place,
            await self.open(scene, call, place) as answer,
        ):
            yield answer, place.number

    async def open(self, scene: Scene, call: Call, place: Place, text: LiveText | None = None) -> Answer:
        """The answer as the next turn at `place`, to which what was spoken of it is added at its end."""
        return await self._opened(scene, call, place, text, await self.before(place.conversation))

    async def go_on(self, scene: Scene, before: Before, call: Call, place: Place, text: LiveText) -> Answer:
        """The answer that is the last turn, from the frame at which it broke off, as `gone_on` has prepared it.

        Raises Conflict where the conversation has gone on without it.
        """
        assert before.broken_off is not None, "gone_on names it"
        if not is_last_turn(before.broken_off, place.conversation):
            raise Conflict("the conversation has gone on: this turn stays as far as it was spoken")
        return await self._opened(scene, call, place, text, before)

    async def _opened(self, scene: Scene, call: Call, place: Place, text: LiveText | None, before: Before) -> Answer:
        positions = 0
        add = self.conversations.append if before.broken_off is None else self.conversations.extend

        async def keep(record: Record) -> None:
            turn = turn_of(record, positions)
            if turn is not None:
                await add(place, turn)

        answer = await self._speech.open(scene, replace(call, on_record=keep), text, before)
        positions = answer.accepted.prompt_tokens
        return answer

    async def prepare(self, key: Key, conversation_id: str, scene: Scene) -> int:
        """Have the model read the conversation, so that the next turn begins sooner. The positions that it read.

        scene: one turn, without its text.
        It reads in the background: a request with a listener goes first. Raises Overloaded where no slot is free.
        """
        conversation = await self.conversations.get(key.id, conversation_id)
        conversation = within(conversation, await self.room_seconds())
        return await self._speech.prepare(scene, await self.before(conversation), key)

    async def before(self, conversation: Conversation) -> Before:
        """What the next turn is conditioned on."""
        return before(conversation, await self._speech.with_voices({turn.speaker for turn in conversation.turns}))

    async def state(self, key: Key, conversation_id: str) -> str:
        """The conversation for its caller to hold."""
        conversation = await self.conversations.get(key.id, conversation_id)
        kept = conversation.turns[conversation.first_kept :]
        return await asyncio.to_thread(self.states.pack, conversation.voices, kept, conversation.num_codebooks)

    async def room_seconds(self) -> float:
        """What the model has learnt to follow, and no more than half of its positions: the rest is text and reply."""
        info = await self._speech.info()
        return min(info.trained_for.longest_context_seconds, info.max_positions * 0.08 / 2)


def is_last_turn(record: Record, conversation: Conversation) -> bool:
    return bool(conversation.turns) and conversation.turns[-1].request_id == record.request_id


def before(conversation: Conversation, default_speakers: Collection[int]) -> Before:
    """What the next turn is conditioned on.

    Where neither a recording nor the checkpoint holds a speaker's voice, the beginning of its first turn does, and
    stays.
    """
    known = {voice.speaker for voice in conversation.voices} | set(default_speakers)
    given, history = list(conversation.voices), list[ContextSegment]()
    for number, turn in enumerate(conversation.turns):
        segments = list(turn.segments())
        if segments and turn.speaker not in known:
            known.add(turn.speaker)
            given.append(replace(segments.pop(0), anchor=True))
        if number >= conversation.first_kept:
            history += segments
    return Before(tuple(given), tuple(history))
