"""However an answer ends, its slots are free, its outcome is recorded, and its key is charged for what was spoken."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from serve_app.errors import GenerationFailed, LimitReached, Overloaded, StartTimeout, UnknownRequest
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.messages import FinishReason, SamplingParams
from serve_app.settings import KeySettings
from serve_app.speech.answer import Answer
from serve_app.speech.call import Call
from serve_app.speech.scene import ContextSource, Scene, Turn, UrlAudio
from serve_app.speech.service import SpeechService
from serve_app.store.database import Database
from tests.support.fakes import FakeDecoder, Utterance
from tests.support.speech import speech_service

LIMIT = 12.0
SCENE = Scene((Turn("Hello.", 0),), (), 3, SamplingParams(), 90.0)
LONG = Scene((Turn("a" * 60, 0), Turn("b" * 600, 1)), (), 3, SamplingParams(), 10.0)
"""May take all of its `max_audio_seconds`."""
CALL = Call("r", ANONYMOUS)


def outcome(speech: SpeechService) -> tuple[FinishReason | None, int]:
    known = speech.outcomes.get(ANONYMOUS.id, "r")
    return known.finish_reason, known.num_frames


async def test_an_answer_that_is_heard_to_its_end_records_its_finish() -> None:
    speech = speech_service()
    async with await speech.open(SCENE, CALL) as answer:
        assert outcome(speech) == (None, 0)
        _ = [chunk async for chunk in answer.chunks()]
    assert outcome(speech) == (FinishReason.EOS, 4)
    assert answer.outcome == speech.outcomes.get(ANONYMOUS.id, "r")
    assert (answer.accepted.seed, answer.outcome.seed) == (3, 3)


async def test_leaving_early_frees_the_slot_and_records_a_cancellation() -> None:
    decoder = FakeDecoder(Utterance(stalls=True))
    speech = speech_service(decoder)
    async with await speech.open(SCENE, CALL) as answer, aclosing(answer.chunks()) as chunks:
        await anext(chunks)
    assert decoder.num_open == 0
    assert outcome(speech) == (FinishReason.CANCELLED, 2)


async def test_leaving_before_the_first_chunk_frees_the_slot() -> None:
    decoder = FakeDecoder()
    speech = speech_service(decoder)
    async with await speech.open(SCENE, CALL):
        assert decoder.num_open == 1
    assert decoder.num_open == 0
    assert outcome(speech) == (FinishReason.CANCELLED, 0)


@pytest.mark.parametrize("error", [GenerationFailed("broken"), RuntimeError("a bug")], ids=repr)
async def test_an_answer_that_breaks_off_records_an_error(error: Exception) -> None:
    speech = speech_service(FakeDecoder(Utterance(break_with=error)))
    with pytest.raises(type(error)):
        async with await speech.open(SCENE, CALL) as answer:
            _ = [chunk async for chunk in answer.chunks()]
    assert outcome(speech) == (FinishReason.ERROR, 4)


async def test_a_refused_request_has_no_outcome() -> None:
    speech = speech_service(FakeDecoder(Utterance(refusal=Overloaded("full"))))
    with pytest.raises(Overloaded):
        await speech.open(SCENE, CALL)
    with pytest.raises(UnknownRequest):
        outcome(speech)


async def test_a_request_that_does_not_start_in_time_frees_its_slot() -> None:
    decoder = FakeDecoder(Utterance(waits_for_slot=True))
    with pytest.raises(StartTimeout, match=r"within its 0\.01 s"):
        await speech_service(decoder).open(SCENE, Call("r", ANONYMOUS, start_timeout_seconds=0.01))
    assert decoder.num_open == 0


async def test_seeds_the_server_chooses_differ_and_are_exact_in_javascript() -> None:
    speech, seeds = speech_service(), set()
    for _ in range(20):
        async with await speech.open(Scene(SCENE.turns, (), None, SamplingParams(), 90.0), CALL) as answer:
            seeds.add(answer.accepted.seed)
    assert len(seeds) == 20
    assert max(seeds) < 2**53


async def test_background_work_that_runs_again_has_its_seed_again() -> None:
    speech, seeds = speech_service(), []
    scene = Scene(SCENE.turns, (), None, SamplingParams(), 90.0)
    for request_id in ("job", "job", "another"):
        async with await speech.open(scene, Call(request_id, ANONYMOUS, priority=1)) as answer:
            seeds.append(answer.accepted.seed)
    assert seeds[0] == seeds[1] != seeds[2]
    assert max(seeds) < 2**53


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
    """Seconds of audio that the key still has, found by trying, to a hundredth."""
    low, high = 0, int(LIMIT * 100)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            async with allowance.take(key, middle / 100):
                low = middle
        except LimitReached:
            high = middle - 1
    return low / 100


def test_the_longest_answer_is_bounded_by_the_texts_and_by_the_request() -> None:
    assert LONG.longest_seconds == 10.0
    short = Scene((Turn("Hi.", 0), Turn("Ho.", 1)), (), None, SamplingParams(), 90.0)
    assert 4 < short.longest_seconds < 8


async def test_a_running_answer_takes_its_longest_and_an_ended_one_what_was_spoken(
    allowance: Allowance, key: Key
) -> None:
    decoder = FakeDecoder(Utterance(num_frames=50), Utterance(num_frames=25))
    async with await speech_service(decoder, allowance=allowance).open(LONG, Call("r", key)) as answer:
        assert await left(allowance, key) == 2.0
        await answer.pcm()
    assert await left(allowance, key) == 6.0


@pytest.mark.parametrize("how", ["closed", "cancelled", "broken"])
async def test_a_caller_who_leaves_pays_for_what_was_spoken(allowance: Allowance, key: Key, how: str) -> None:
    decoder = FakeDecoder(
        Utterance(num_frames=50, break_with=LookupError("broken")) if how == "broken" else Utterance(50, stalls=True)
    )
    speech = speech_service(decoder, allowance=allowance)

    async def read(answer: Answer) -> None:
        async with aclosing(answer.chunks()) as chunks:
            async for _ in chunks:
                if how == "closed" and answer.outcome.num_frames == 50:
                    return

    async def listen() -> None:
        async with await speech.open(LONG, Call("r", key)) as answer:
            await read(answer)

    listening = asyncio.create_task(listen())
    if how == "cancelled":
        await decoder.news.wait()
        listening.cancel()
    await asyncio.wait([listening])
    assert decoder.num_open == 0
    assert await left(allowance, key) == LIMIT - 4.0


async def test_a_key_without_audio_left_is_refused_before_any_work(allowance: Allowance, key: Key) -> None:
    decoder = FakeDecoder()
    scene = LONG.with_context((ContextSource("Before.", 0, UrlAudio("https://x/would-fail")),))
    async with allowance.take(key, LIMIT):
        with pytest.raises(LimitReached):
            await speech_service(decoder, allowance=allowance).open(scene, Call("r", key))
    assert decoder.requests == []
