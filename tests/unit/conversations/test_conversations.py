"""Conversations in a database, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.conversations.conversations import Conversations
from serve_app.conversations.turn import Passage, Turn
from serve_app.errors import Conflict, InvalidRequest, LimitReached, UnknownConversation
from serve_app.messages import ContextSegment
from serve_app.settings import ConversationSettings
from serve_app.store.database import Database
from tests.support.fakes import NUM_CODEBOOKS, frames_of

VOICE = ContextSegment("me", 0, frames_of(5, 10), anchor=True)
SPOKEN = Turn("spoken", 0, "one two three four", (Passage("one two three four", 0, 8),), frames_of(1, 8), "r", 30)
HEARD = Turn("heard", 1, "yes", (Passage("yes", 0, 2),), frames_of(2, 2))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/state.db"
    database = Database.open(url if request.param == "sqlite" else request.getfixturevalue("postgres").new_database())
    yield database
    database.close()


def held(database: Database, clock: Clock | None = None, **settings: object) -> Conversations:
    return Conversations(database, ConversationSettings.model_validate(settings), clock or Clock())


async def test_turns_are_read_as_they_were_added(database: Database) -> None:
    talk = held(database)
    id_ = (await talk.create("me", [VOICE], NUM_CODEBOOKS)).id
    for turn in (SPOKEN, HEARD):
        async with talk.taken("me", id_, 90) as place:
            await talk.append(place, turn)
    found = await held(database).get("me", id_)
    assert (found.voices, found.turns, found.context_frames) == ((VOICE,), (SPOKEN, HEARD), 20)
    assert [segment.text for segment in found.history] == ["one two three four", "yes"]
    with pytest.raises(UnknownConversation):
        await talk.get("you", id_)


async def test_of_two_turns_at_once_one_is_refused(database: Database) -> None:
    talk, other = held(database), held(database)
    id_ = (await talk.create("me", [], NUM_CODEBOOKS)).id

    async def turn(through: Conversations) -> str:
        try:
            async with through.taken("me", id_, 90) as place:
                await asyncio.sleep(0.05)
                await through.append(place, SPOKEN)
        except Conflict:
            return "refused"
        return "added"

    assert sorted(await asyncio.gather(turn(talk), turn(other))) == ["added", "refused"]
    assert len((await talk.get("me", id_)).turns) == 1


async def test_the_place_of_a_dead_replica_is_free_after_its_lease_and_its_late_turn_is_refused(
    database: Database,
) -> None:
    clock = Clock()
    talk, other = held(database, clock), held(database, clock)
    id_ = (await talk.create("me", [], NUM_CODEBOOKS)).id
    async with talk.taken("me", id_, 90) as late:
        clock.now += 31
        async with other.taken("me", id_, 90) as place:
            await other.append(place, HEARD)
        with pytest.raises(Conflict):
            await talk.append(late, SPOKEN)
    assert (await talk.get("me", id_)).turns == (HEARD,)


async def test_quota_retention_and_deletion(database: Database) -> None:
    clock = Clock()
    talk = held(database, clock, max_per_key=1, kept_seconds=60, max_turns=2)
    id_ = (await talk.create("me", [], NUM_CODEBOOKS)).id
    with pytest.raises(LimitReached):
        await talk.create("me", [], NUM_CODEBOOKS)
    await talk.create("you", [], NUM_CODEBOOKS)
    clock.now += 59
    async with talk.taken("me", id_, 90) as place:
        await talk.append(place, SPOKEN)
    clock.now += 59
    assert len((await talk.get("me", id_)).turns) == 1
    assert await talk.sweep() == 1
    async with talk.taken("me", id_, 90) as place:
        await talk.append(place, SPOKEN)
    async with talk.taken("me", id_, 90) as place:
        with pytest.raises(InvalidRequest, match="begin another"):
            await talk.append(place, SPOKEN)
    await talk.delete("me", id_)
    with pytest.raises(UnknownConversation):
        await talk.get("me", id_)
    assert await talk.list("me") == []


async def test_over_two_hundred_turns_the_model_hears_the_voice_and_never_more_than_its_room(
    database: Database,
) -> None:
    talk = held(database)
    id_ = (await talk.create("me", [VOICE], NUM_CODEBOOKS)).id
    room_seconds, changes, first = 8.0, 0, 0
    for number in range(200):
        async with talk.taken("me", id_, room_seconds) as place:
            assert place.conversation.context_frames <= room_seconds * 12.5
            assert place.conversation.voices == (VOICE,)
            kept = place.conversation.turns[place.conversation.first_kept :]
            assert not kept or kept[0].kind == "heard" or place.conversation.first_kept == 0
            changes += place.conversation.first_kept != first
            first = place.conversation.first_kept
            await talk.append(place, HEARD if number % 2 == 0 else SPOKEN)
    # Each change makes the whole prompt new to the prefix cache.
    assert 0 < changes <= 200 / 8


def test_a_cut_turn_keeps_whole_passages_and_cuts_the_words_of_the_one_that_was_interrupted() -> None:
    turn = replace(SPOKEN, passages=(Passage("one two", 0, 4), Passage("three four", 6, 4)))
    cut = turn.cut(640)  # 8 frames: four of speech, a pause of two, two of speech
    assert [(passage.text, passage.num_frames) for passage in cut.passages] == [("one two", 4), ("three", 2)]
    assert (cut.num_frames, cut.heard_text) == (6, "one two three")
    assert turn.cut(0).passages == ()
    assert turn.cut(0).heard_text == ""
    assert turn.cut(641).num_frames == 7
