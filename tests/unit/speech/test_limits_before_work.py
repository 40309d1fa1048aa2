"""A key's hold comes before its context is read; its clips wait for each other; it is charged for what it sends."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from serve_app.audio.clip import Recording
from serve_app.errors import LimitReached, Overloaded
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.keys.tables import KEYS
from serve_app.messages import SamplingParams
from serve_app.settings import KeySettings
from serve_app.speech import context_audio
from serve_app.speech.call import Call
from serve_app.speech.scene import ContextSource, InlineAudio, Scene, Turn
from serve_app.store.database import Database
from tests.support.fakes import pcm_of
from tests.support.speech import speech_service

SCENE = Scene((Turn("Hi.", 0),), (ContextSource("Before.", 0, InlineAudio(b"clip")),), 1, SamplingParams(), 90.0)


class Reader:
    """Takes each clip for two seconds of sound, and notes whose it is."""

    def __init__(self) -> None:
        self.owners: list[str] = []
        self.refusal: Exception | None = None

    def __call__(self, field: str, data: bytes, max_seconds: float, owner: str) -> Recording:
        self.owners.append(owner)
        if self.refusal is not None:
            raise self.refusal
        return Recording(pcm_of(1, 25), ("is very quiet: send a louder one",))


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader()
    monkeypatch.setattr(context_audio, "read_recording", reader)
    return reader


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    yield database
    database.close()


def owed(database: Database, key: Key) -> float:
    with database.reading() as connection:
        return connection.execute(select(KEYS.c.audio_owed).where(KEYS.c.id == key.id)).scalar_one()


async def test_a_key_at_its_limit_has_nothing_read(reader: Reader, database: Database) -> None:
    key, _ = Keys(database, KeySettings()).create("k", concurrency=1)
    speech = speech_service(allowance=Allowance(database))
    async with await speech.open(SCENE, Call("a", key)):
        with pytest.raises(LimitReached):
            await speech.open(SCENE, Call("b", key))
    assert reader.owners == [key.id]


async def test_a_refused_clip_gives_the_hold_back(reader: Reader, database: Database) -> None:
    key, _ = Keys(database, KeySettings()).create("k", concurrency=1)
    speech = speech_service(allowance=Allowance(database))
    reader.refusal = Overloaded("too many clips wait")
    with pytest.raises(Overloaded):
        await speech.open(SCENE, Call("a", key))
    reader.refusal = None
    async with await speech.open(SCENE, Call("b", key)) as answer:
        assert answer.notices == ("context clip 1: is very quiet: send a louder one",)


async def test_without_keys_the_callers_are_no_owner(reader: Reader) -> None:
    async with await speech_service().open(SCENE, Call("a", ANONYMOUS)):
        pass
    assert reader.owners == [""]


async def test_context_is_charged_beside_what_was_spoken(reader: Reader, database: Database) -> None:
    key, _ = Keys(database, KeySettings()).create("k", audio_seconds_per_minute=6)
    speech = speech_service(allowance=Allowance(database), context_charge=0.5)
    async with await speech.open(SCENE, Call("a", key)) as answer:
        await answer.pcm()
    assert owed(database, key) == pytest.approx(1.0 + 4 * 0.08, abs=0.1)
