"""What a key pays for is what was spoken, however the speech ended."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from serve_app.errors import LimitReached
from serve_app.keys.key import Key
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.messages import Accepted, AudioChunk, SamplingParams
from serve_app.settings import KeySettings
from serve_app.speech.charged import charged
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import SpeechRequest, Turn
from serve_app.store.database import Database
from tests.support.fakes import FakeDecoder, FakeEncoder, Utterance

LIMIT = 12.0
REQUEST = SpeechRequest("r", (Turn("a" * 60, 0), Turn("b" * 600, 1)), (), SamplingParams(), 10.0)
"""May take all of its `max_audio_seconds`."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/state.db")
    yield database
    database.close()


@pytest.fixture
def allowance(database: Database) -> Allowance:
    return Allowance(database, lambda: 1e9)


@pytest.fixture
def key(database: Database) -> Key:
    return Keys(database, KeySettings()).create("Ann", audio_seconds_per_minute=LIMIT)[0]


async def left(allowance: Allowance, key: Key) -> float:
    """Seconds of audio, by trying: hundredths."""
    low, high = 0, int(LIMIT * 100)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            async with allowance.take(key, middle / 100):
                low = middle
        except LimitReached:
            high = middle - 1
    return low / 100


def test_the_longest_answer_is_bounded_by_its_texts_and_by_what_was_asked_for() -> None:
    assert REQUEST.longest_seconds == 10.0
    short = SpeechRequest("r", (Turn("Hi.", 0), Turn("Ho.", 1)), (), SamplingParams(), 90.0)
    assert 4 < short.longest_seconds < 8


async def test_while_it_is_spoken_the_longest_is_taken_and_in_the_end_what_was_spoken(
    allowance: Allowance, key: Key
) -> None:
    pipeline = SpeechPipeline(FakeEncoder(), FakeDecoder(Utterance(num_frames=50), Utterance(num_frames=25)))
    speech = charged(pipeline.stream(REQUEST), REQUEST, key, allowance)
    assert isinstance(await anext(speech), Accepted)
    assert await left(allowance, key) == 2.0
    _ = [message async for message in speech]
    assert await left(allowance, key) == 6.0


@pytest.mark.parametrize("how", ["closed", "cancelled", "broken"])
async def test_who_leaves_pays_for_what_was_spoken_until_then(allowance: Allowance, key: Key, how: str) -> None:
    decoder = FakeDecoder(
        Utterance(num_frames=50, break_with=LookupError("broken")) if how == "broken" else Utterance(50, stalls=True)
    )
    speech = charged(SpeechPipeline(FakeEncoder(), decoder).stream(REQUEST), REQUEST, key, allowance)

    async def listen() -> None:
        num_frames = 0
        async with aclosing(speech):
            async for message in speech:
                num_frames += message.codes.num_frames if isinstance(message, AudioChunk) else 0
                if how == "closed" and num_frames == 50:
                    return

    listening = asyncio.create_task(listen())
    if how == "cancelled":
        await decoder.news.wait()
        listening.cancel()
    await asyncio.wait([listening])
    assert decoder.num_open == 0
    assert await left(allowance, key) == LIMIT - 4.0


async def test_what_is_refused_for_want_of_audio_is_not_asked_of_the_engine(allowance: Allowance, key: Key) -> None:
    decoder = FakeDecoder()
    async with allowance.take(key, LIMIT):
        with pytest.raises(LimitReached):
            await anext(charged(SpeechPipeline(FakeEncoder(), decoder).stream(REQUEST), REQUEST, key, allowance))
    assert decoder.requests == []
